"""The official Python SDKs of OpenAI and Anthropic as judges of shape: what we send is what their types describe, and what we
take for recordings is what their clients read."""
import json
import warnings

import pytest
from upstream import RECORDINGS, Upstream, recording

openai, anthropic, pydantic = (pytest.importorskip(name) for name in ("openai", "anthropic", "pydantic"))

SENT = json.loads((RECORDINGS / "expected" / "requests.json").read_text())
EXPECTED = json.loads((RECORDINGS / "expected" / "replies.json").read_text())


def text(name):
    return "".join(part["text"] for part in EXPECTED[name]["parts"] if part["type"] == "text")


def calls(name):
    return [(part["name"], part["arguments"]) for part in EXPECTED[name]["parts"] if part["type"] == "tool_call"]


def strict(kind, value):
    """Validates `value`; members that the type does not know are an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapter = pydantic.TypeAdapter(kind)
        checked = adapter.validate_python(value)
    unknown = set(value) - {name for one in (kind, *getattr(kind, "__mro__", ())) for name in getattr(one, "__annotations__", {})}
    assert not unknown, unknown
    # Iterables are checked when they are read.
    for name in ("messages", "tools", "input"):
        if name in checked:
            for item in checked[name]:
                if not isinstance(item.get("content"), str):
                    list(item.get("content") or ())
    del adapter


@pytest.mark.parametrize("service", ["openai", "openrouter", "deepseek"])
def test_chat_completions_are_requests_of_the_sdk(service):
    from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
    strict(CompletionCreateParamsStreaming, SENT[service]["body"])


def test_responses_are_requests_of_the_sdk():
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
    strict(ResponseCreateParamsStreaming, SENT["openai_responses"]["body"])


def test_messages_are_requests_of_the_sdk():
    from anthropic.types.message_create_params import MessageCreateParamsStreaming
    # Older models still take what newer ones have dropped; it is sent when a script sets it.
    body = {name: value for name, value in SENT["anthropic"]["body"].items() if name not in ("temperature", "top_p")}
    strict(MessageCreateParamsStreaming, body)


@pytest.mark.parametrize("name", ["openai-text.sse", "openai-tools.sse", "azure-text.sse", "groq-text.sse", "deepseek-reasoning.sse",
                                  "llamacpp-tools.sse"])
def test_recordings_of_chats_are_read_by_the_sdk(name):
    with Upstream(recording(name)) as up:
        client = openai.OpenAI(base_url=up.url, api_key="k", max_retries=0)
        said, made = "", {}
        for chunk in client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True):
            for choice in chunk.choices:
                said += choice.delta.content or ""
                for call in choice.delta.tool_calls or ():
                    made.setdefault(call.index, ["", ""])
                    made[call.index][0] += call.function.name or ""
                    made[call.index][1] += call.function.arguments or ""
    assert said == text(name)
    assert [(one, json.loads(two or "{}")) for one, two in made.values()] == calls(name)


def test_whole_chats_are_read_by_the_sdk():
    with Upstream(recording("openai-whole.json")) as up:
        client = openai.OpenAI(base_url=up.url, api_key="k", max_retries=0)
        reply = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert reply.choices[0].message.content == text("openai-whole.json")
    assert reply.usage.prompt_tokens == EXPECTED["openai-whole.json"]["usage"]["input_tokens"]


@pytest.mark.parametrize("name", ["openai_responses-text.sse", "openai_responses-tools.sse"])
def test_recordings_of_responses_are_read_by_the_sdk(name):
    with Upstream(recording(name)) as up:
        client = openai.OpenAI(base_url=up.url, api_key="k", max_retries=0)
        last = [event for event in client.responses.create(model="m", input="hi", stream=True)][-1]
    assert last.type == "response.completed" and last.response.output_text == text(name)
    made = [(item.name, json.loads(item.arguments)) for item in last.response.output if item.type == "function_call"]
    assert made == calls(name)


@pytest.mark.parametrize("name", ["anthropic-thinking.sse", "anthropic-tools.sse"])
def test_recordings_of_messages_are_read_by_the_sdk(name):
    with Upstream(recording(name)) as up:
        client = anthropic.Anthropic(base_url=up.url, api_key="k", max_retries=0)
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
            reply = stream.get_final_message()
    assert "".join(block.text for block in reply.content if block.type == "text") == text(name)
    assert [(block.name, block.input) for block in reply.content if block.type == "tool_use"] == calls(name)


def test_errors_are_errors_to_the_sdks():
    with Upstream(recording("anthropic-overloaded.sse")) as up:
        client = anthropic.Anthropic(base_url=up.url, api_key="k", max_retries=0)
        with pytest.raises(anthropic.APIStatusError), client.messages.stream(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
            stream.get_final_message()
    with Upstream(recording("openai-late-error.sse")) as up:
        client = openai.OpenAI(base_url=up.url, api_key="k", max_retries=0)
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True))
