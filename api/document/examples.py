"""Examples of request bodies.

Each works as it stands, once its path names what exists.
"""

from collections.abc import Mapping
from typing import Any

_CONVERSATION = "/v1/conversations/{conversation_id}"
_TURN = f"{_CONVERSATION}/turns/{{turn_id}}"

# A picture of one pixel.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

_WEATHER = {
    "name": "get_weather",
    "description": "Returns the weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "POST /v1/conversations": {
        "Empty": {},
        "With a title": {"title": "First steps", "agent_id": "support", "metadata": {"ticket": "4711"}},
        "With its first messages": {
            "messages": [
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": "How tall is the Matterhorn?"},
                {"role": "assistant", "content": [{"type": "text", "text": "It is 4,478 metres tall."}]},
            ]
        },
    },
    f"PATCH {_CONVERSATION}": {
        "Rename": {"title": "Mountains"},
        "Without a title": {"title": None},
        "Replace the metadata": {"metadata": {"ticket": "4712", "closed": True}},
    },
    f"POST {_CONVERSATION}/messages": {
        "Text": {"role": "user", "content": "How tall is the Matterhorn?"},
        "Text and image": {
            "role": "user",
            "content": [
                {"type": "text", "text": "Describe this picture."},
                {"type": "image", "media_type": "image/png", "data": _PNG},
            ],
        },
    },
    f"POST {_CONVERSATION}/turns": {
        "Whole": {"content": "Hello!"},
        "Streamed": {"content": "Hello!", "stream": True},
        "With tools": {"content": "Do I need an umbrella in Bern?", "tools": [_WEATHER]},
        "Queued": {"content": "And tomorrow?", "on_busy": "queue"},
        "The client runs the model": {"content": "Hello!", "generate": False},
    },
    "POST /v1/turns": {
        "Whole": {"content": "Hello!", "title": "First steps"},
        "Streamed": {"content": "Hello!", "stream": True},
    },
    f"POST {_CONVERSATION}/messages/{{message_id}}/regenerate": {
        "Whole": {},
        "Streamed": {"stream": True},
    },
    f"POST {_TURN}/tool_results": {
        "One result": {"results": [{"tool_use_id": "call_weather", "content": '{"sky": "clear"}'}]},
        "An error, streamed": {
            "results": [{"tool_use_id": "call_weather", "content": "No such city.", "is_error": True}],
            "stream": True,
        },
    },
    "PUT /v1/agents/{agent_id}": {
        "A prompt and a model": {
            "system_prompt": "Answer in one sentence.",
            "model": "turnlog/demo",
            "temperature": 0.2,
            "max_conversations": 1000,
        },
        "Tools": {"tools": [_WEATHER], "tool_results_timeout_s": 600},
        "Nothing but a label": {},
    },
    f"POST {_TURN}/deltas": {
        "The first chunks": {"seq": 2, "chunks": ["Hel", "lo"]},
        "Keep alive": {"seq": 2, "chunks": []},
    },
    f"POST {_TURN}/complete": {
        "Without usage": {},
        "With usage": {"usage": {"input_tokens": 12, "output_tokens": 2}, "finish_reason": "stop"},
    },
    f"POST {_TURN}/fail": {"The model broke off": {"detail": "The connection to the model was lost."}},
}
"""The bodies of each operation, by what they show."""
