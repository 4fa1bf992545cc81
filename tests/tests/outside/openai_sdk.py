"""The OpenAI SDK, unchanged, against the proxy. Prints one line for each claim that held."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="the-key", max_retries=0)
ASK = [{"role": "user", "content": "hello there"}]


def claim(name, held, *seen):
    assert held, (name, *seen)
    print(name, flush=True)


chat = client.chat.completions.create(model="m", messages=ASK)
claim("chat", chat.choices[0].message.content == "b t1 t2 t3", chat)
claim("chat usage", chat.usage.completion_tokens == 4, chat)

stream = client.chat.completions.create(
    model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
claim("stream", text == "b t1 t2 t3", chunks)
claim("stream role", chunks[0].choices[0].delta.role == "assistant", chunks[0])
claim("stream usage", chunks[-1].usage.total_tokens == 11 and not chunks[-1].choices, chunks[-1])
claim("stream finish", chunks[-2].choices[0].finish_reason == "stop", chunks[-2])

tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
called = client.chat.completions.create(model="m", messages=ASK, tools=tools)
call = called.choices[0].message.tool_calls[0]
claim("tools", (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo"}'), call)
parts = client.chat.completions.create(model="m", messages=ASK, tools=tools, stream=True)
arguments = "".join(
    c.choices[0].delta.tool_calls[0].function.arguments
    for c in parts
    if c.choices and c.choices[0].delta.tool_calls
)
claim("streamed tools", arguments == '{"city":"Oslo"}', arguments)

completion = client.completions.create(model="m", prompt="once upon")
claim("completions", completion.choices[0].text == "b t1 t2 t3", completion)

vectors = client.embeddings.create(model="m", input=["one", "two"])
claim("embeddings", [v.embedding for v in vectors.data] == [[0.5, -0.25]] * 2, vectors)
plain = client.embeddings.create(model="m", input="one", encoding_format="float")
claim("float embeddings", plain.data[0].embedding == [0.5, -0.25], plain)

names = [model.id for model in client.models.list()]
claim("models", "m" in names, names)

for status, kind in [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (404, openai.NotFoundError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
]:
    for streamed in (False, True):
        try:
            client.chat.completions.create(
                model="m", messages=ASK, stream=streamed, extra_body={"mock": {"status": status}}
            )
        except kind as error:
            claim(f"{status} {streamed}", error.code == f"mock_{status}", error)
        else:
            raise AssertionError(f"no error for {status}")

try:
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 300_000}])
except openai.APIStatusError as error:
    claim("413", error.status_code == 413 and error.body["message"], error)
else:
    raise AssertionError("no error for 413")

try:
    openai.OpenAI(base_url=sys.argv[1], api_key="wrong", max_retries=0).models.list()
except openai.AuthenticationError as error:
    claim("own 401", error.code == "invalid_api_key", error)
else:
    raise AssertionError("no error for a wrong key")

try:
    for _ in client.chat.completions.create(
        model="m", messages=ASK, stream=True, extra_body={"mock": {"break": "reset"}}
    ):
        pass
except openai.APIError as error:
    claim("broken stream", bool(error.message), error)
else:
    raise AssertionError("a broken stream looked whole")

print("all held")
