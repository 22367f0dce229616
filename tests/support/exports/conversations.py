"""Conversations as other programs export them, after public descriptions."""

from typing import Any

from tests.support.exports.files import Json

LANGUAGES = {
    "Arabic": "مرحبا، كيف الحال؟",
    "Hebrew": "שלום עולם",
    "Chinese": "你好世界",
    "Japanese": "こんにちは",
    "Hindi": "नमस्ते दुनिया",
    "emoji": "👩🏽‍🚀 and 🇺🇳",
    "mathematics": "𝒙² ≤ ∞",
    "controls": "a\tb\nc\u200e\u202e",
}


def node(node_id: str, parent: str | None, role: str, text: str = "", **message: Any) -> Json:
    """Return a node of a ChatGPT conversation, whose message has these fields."""
    said = {
        "id": node_id,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": None,
        "update_time": None,
        "content": {"content_type": "text", "parts": [text]},
        "status": "finished_successfully",
        "end_turn": None,
        "weight": 1.0,
        "recipient": "all",
        "metadata": {},
    }
    return {"id": node_id, "parent": parent, "children": [], "message": {**said, **message}}


def chatgpt(*nodes: Json, **fields: Any) -> Json:
    """Return a ChatGPT conversation, of whose nodes the last is current."""
    children = {each["id"]: [other["id"] for other in nodes if other["parent"] == each["id"]] for each in nodes}
    return {
        "id": "c1",
        "conversation_id": "c1",
        "title": "The sky",
        "create_time": 1700000000.25,
        "update_time": 1700000009.5,
        "mapping": {each["id"]: {**each, "children": children[each["id"]]} for each in nodes},
        "current_node": nodes[-1]["id"] if nodes else None,
        "moderation_results": [],
        **fields,
    }


def claude_message(uuid: str, parent: str | None, sender: str, *content: Json, **fields: Any) -> Json:
    """Return a message of a Claude conversation.

    A parent that is None is left out, as in older exports.
    """
    return {
        "uuid": uuid,
        "text": "",
        "content": list(content),
        "sender": sender,
        "created_at": "2025-03-01T10:00:00.500000Z",
        "updated_at": "2025-03-01T10:00:00.500000Z",
        "attachments": [],
        "files": [],
        **({} if parent is None else {"parent_message_uuid": parent}),
        **fields,
    }


def claude_text(text: str) -> Json:
    """Return a block of text of a Claude message."""
    return {"type": "text", "text": text, "citations": [], "start_timestamp": None, "stop_timestamp": None}


def claude(*messages: Json, **fields: Any) -> Json:
    """Return a Claude conversation."""
    return {
        "uuid": "c1",
        "name": "The sky",
        "summary": "",
        "created_at": "2025-03-01T09:59:59.000000Z",
        "updated_at": "2025-03-01T10:00:01.000000Z",
        "account": {"uuid": "someone"},
        "chat_messages": list(messages),
        **fields,
    }


def open_webui_message(message_id: str, parent: str | None, role: str, content: Any, **fields: Any) -> Json:
    """Return a message of an Open WebUI chat."""
    return {
        "id": message_id,
        "parentId": parent,
        "childrenIds": [],
        "role": role,
        "content": content,
        "timestamp": 1740823200,
        **fields,
    }


def open_webui(*messages: Json, **chat: Any) -> Json:
    """Return an Open WebUI chat, of whose messages the last is current."""
    return {
        "id": "c1",
        "user_id": "someone",
        "title": "The sky",
        "chat": {
            "id": "",
            "title": "The sky",
            "models": ["llama3.3:70b"],
            "params": {},
            "history": {
                "messages": {each["id"]: each for each in messages},
                "currentId": messages[-1]["id"] if messages else None,
            },
            "tags": [],
            "timestamp": 1740823199000,
            **chat,
        },
        "updated_at": 1740823201,
        "created_at": 1740823199,
        "archived": False,
    }
