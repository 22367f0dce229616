"""Notes are those of the Go project's `note` package, and no other note is opened."""

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.proofs.errors import NoteError
from audit.proofs.signed_notes import MAX_SIGNATURES, NoteKey, Signer, open_note, parse_key, sign_note

# The published example of golang.org/x/mod/sumdb/note.
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NAME = "PeterNeumann"
PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SEED = b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
NOTE = f"{TEXT}\n— {NAME} {SIGNATURE}\n"

PETER = Signer(NAME, Ed25519PrivateKey.from_private_bytes(SEED))
OTHER = Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))


def test_the_published_note_is_signed_and_opened() -> None:
    assert sign_note(TEXT, PETER) == NOTE
    assert open_note(NOTE.encode(), [parse_key(PUBLIC)]) == TEXT
    assert (str(PETER.key), PETER.key.id.hex()) == (PUBLIC, "c74f20a3")


def test_signatures_of_unknown_keys_are_ignored() -> None:
    note = sign_note(TEXT, OTHER, PETER).encode()
    assert open_note(note, [PETER.key]) == open_note(note, [OTHER.key]) == open_note(note, [OTHER.key, PETER.key])
    same_name = NoteKey(NAME, OTHER.key.public)
    with pytest.raises(NoteError, match="No known key"):
        open_note(NOTE.encode(), [same_name, OTHER.key])
    with pytest.raises(NoteError, match="No known key"):
        open_note(NOTE.encode(), [])


@pytest.mark.parametrize("changed", [TEXT.replace("answer", "question"), TEXT.upper(), f"\n{TEXT}", f"{TEXT}more\n"])
def test_a_changed_text_is_refused(changed: str) -> None:
    with pytest.raises(NoteError, match="does not belong to this text"):
        open_note(NOTE.replace(TEXT, changed).encode(), [PETER.key])


def test_one_wrong_signature_of_a_known_key_is_refused_beside_a_right_one() -> None:
    wrong = b64encode(PETER.key.id + bytes(64)).decode()
    with pytest.raises(NoteError, match="does not belong to this text"):
        open_note(f"{NOTE}— {NAME} {wrong}\n".encode(), [PETER.key])


def test_the_text_may_have_empty_lines() -> None:
    text = "one\n\n\ntwo\n\n"
    assert open_note(sign_note(text, PETER).encode(), [PETER.key]) == text


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT.encode(),
        NOTE[:-1].encode(),
        f"{NOTE}\n".encode(),
        NOTE.replace("— ", "- ").encode(),
        NOTE.replace("— ", "—").encode(),
        NOTE.replace(f" {SIGNATURE}", "").encode(),
        NOTE.replace(SIGNATURE, "x08go").encode(),
        NOTE.replace(SIGNATURE, "x08gow==").encode(),
        NOTE.replace(SIGNATURE, SIGNATURE.replace("AM=", "AN=")).encode(),
        NOTE.replace(SIGNATURE, f"{SIGNATURE} ").encode(),
        NOTE.replace(NAME, "Peter+Neumann").encode(),
        NOTE.replace(NAME, "Peter\N{NO-BREAK SPACE}Neumann").encode(),
        NOTE.replace("answer", "ans\twer").encode(),
        NOTE.replace("answer", "ans\rwer").encode(),
        NOTE.encode("utf-16"),
        NOTE.encode("latin-1", "replace").replace(b"?", b"\x97"),
        (f"{TEXT}\n" + f"— {NAME} {SIGNATURE}\n" * (MAX_SIGNATURES + 1)).encode(),
    ],
)
def test_a_malformed_note_is_refused_in_one_line(malformed: bytes) -> None:
    with pytest.raises(NoteError) as caught:
        open_note(malformed, [PETER.key])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["no line break", "a\ttab\n", "", "a\x00\n"])
def test_a_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError):
        sign_note(text, PETER)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\N{NO-BREAK SPACE}b", "a\nb"])
def test_a_name_that_no_key_can_have_is_refused(name: str) -> None:
    with pytest.raises(NoteError, match="The name of a key"):
        sign_note(TEXT, PETER._replace(name=name))


def test_a_key_is_read_only_from_its_exact_text() -> None:
    for begin in range(len(PUBLIC)):
        for end in range(begin + 1, len(PUBLIC) + 1):
            if (begin, end) != (0, len(PUBLIC)):
                with pytest.raises(NoteError):
                    parse_key(PUBLIC[begin:end])
    for at, character in enumerate(PUBLIC):
        with pytest.raises(NoteError):
            parse_key(PUBLIC[:at] + chr(ord(character) + 1) + PUBLIC[at + 1 :])
    # An id that fits, for a key that is too long, and for an unknown kind of key.
    for wrong in (
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ):
        with pytest.raises(NoteError):
            parse_key(wrong)
