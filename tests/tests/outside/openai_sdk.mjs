// The OpenAI SDK for Node, unchanged, against the proxy. Prints one line for each claim that held.

import assert from "node:assert/strict";
import OpenAI from "openai";

const baseURL = process.argv[2];
const client = new OpenAI({ baseURL, apiKey: "the-key", maxRetries: 0 });
const messages = [{ role: "user", content: "hello there" }];

function claim(name, seen, expected) {
  assert.deepEqual(seen, expected, name);
  console.log(name);
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function refusal(work, kind) {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof kind, `${error} is no ${kind.name}`);
    return error;
  }
  throw new Error(`no ${kind.name}`);
}

const chat = await client.chat.completions.create({ model: "m", messages });
claim("chat", chat.choices[0].message.content, "b t1 t2 t3");
claim("chat usage", chat.usage.completion_tokens, 4);

const chunks = await collect(
  await client.chat.completions.create({
    model: "m",
    messages,
    stream: true,
    stream_options: { include_usage: true },
  }),
);
const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
claim("stream", text, "b t1 t2 t3");
claim("stream role", chunks[0].choices[0].delta.role, "assistant");
claim("stream usage", [chunks.at(-1).usage.total_tokens, chunks.at(-1).choices.length], [11, 0]);
claim("stream finish", chunks.at(-2).choices[0].finish_reason, "stop");

const runner = client.chat.completions.stream({ model: "m", messages });
claim("stream helper", await runner.finalContent(), "b t1 t2 t3");

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
const called = await client.chat.completions.create({ model: "m", messages, tools });
const call = called.choices[0].message.tool_calls[0].function;
claim("tools", [call.name, call.arguments], ["weather", '{"city":"Oslo"}']);
const parts = await collect(
  await client.chat.completions.create({ model: "m", messages, tools, stream: true }),
);
const pieces = parts.map((part) => part.choices[0]?.delta.tool_calls?.[0].function.arguments ?? "");
claim("streamed tools", pieces.join(""), '{"city":"Oslo"}');

const completion = await client.completions.create({ model: "m", prompt: "once upon" });
claim("completions", completion.choices[0].text, "b t1 t2 t3");

const vectors = await client.embeddings.create({ model: "m", input: ["one", "two"] });
const embeddings = vectors.data.map((one) => Array.from(one.embedding));
claim("embeddings", embeddings, [[0.5, -0.25], [0.5, -0.25]]);

const names = [];
for await (const model of client.models.list()) names.push(model.id);
claim("models", names.includes("m"), true);

for (const [status, kind] of [
  [400, OpenAI.BadRequestError],
  [401, OpenAI.AuthenticationError],
  [404, OpenAI.NotFoundError],
  [429, OpenAI.RateLimitError],
  [500, OpenAI.InternalServerError],
]) {
  for (const stream of [false, true]) {
    const ask = { model: "m", messages, stream, mock: { status } };
    const error = await refusal(() => client.chat.completions.create(ask), kind);
    claim(`${status} ${stream}`, error.code, `mock_${status}`);
  }
}

const long = [{ role: "user", content: "x".repeat(300_000) }];
const tooLarge = await refusal(
  () => client.chat.completions.create({ model: "m", messages: long }),
  OpenAI.APIError,
);
claim("413", [tooLarge.status, tooLarge.code], [413, "request_too_large"]);

const wrongType = [messages[0], { role: "user", content: 5 }];
const named = await refusal(
  () => client.chat.completions.create({ model: "m", messages: wrongType }),
  OpenAI.BadRequestError,
);
claim("named field", named.param, "messages[1].content");

const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
const unknown = await refusal(() => stranger.models.list(), OpenAI.AuthenticationError);
claim("own 401", unknown.code, "invalid_api_key");

const broken = { model: "m", messages, stream: true, mock: { break: "reset" } };
const cut = await refusal(
  async () => collect(await client.chat.completions.create(broken)),
  OpenAI.APIError,
);
claim("broken stream", cut.message.length > 0, true);

const aborted = await client.chat.completions.create({
  model: "m",
  messages,
  stream: true,
  mock: { tokens: 1000, delay_ms: 50 },
});
for await (const chunk of aborted) {
  if (chunk.choices[0]?.delta.content) break;
}
claim("a stream that is left", aborted.controller.signal.aborted, true);

console.log("all held");
