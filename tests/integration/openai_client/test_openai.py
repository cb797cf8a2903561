#!/usr/bin/env python3
"""The official `openai` client against a running Conclave.

    CONCLAVE_URL=http://127.0.0.1:8080 python test_openai.py [NAME...]

Checks invariants, never the words of an answer, so that it runs on any
models. Prints one line a test, then "N passed, M failed, K skipped"; exit code 1
when any failed or none passed. Environment:

    CONCLAVE_URL      the server, without /v1
    CONCLAVE_KEY      an API key, if the server wants one
    CONCLAVE_FAKE     1: it is conclave_gateway_fake, whose experts `busy`,
                      `down`, `broken` and `leaky` fail on purpose
    CONCLAVE_EXPERT   an expert that answers (default: the first listed)
    CONCLAVE_ENCODER  a model for embeddings (default: auto)
    CONCLAVE_TOKENS   token ids for a prompt, comma-separated (default 72,105)
"""

import base64
import json
import math
import os
import struct
import sys
import time
import traceback
import urllib.error
import urllib.request

import openai

URL = os.environ.get("CONCLAVE_URL", "http://127.0.0.1:8080").rstrip("/")
KEY = os.environ.get("CONCLAVE_KEY", "none-needed")
FAKE = os.environ.get("CONCLAVE_FAKE") == "1"
ENCODER = os.environ.get("CONCLAVE_ENCODER", "auto")
TOKENS = [int(t) for t in
          os.environ.get("CONCLAVE_TOKENS", "72,105").split(",")]

client = openai.OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0,
                       timeout=120)
HELLO = [{"role": "user", "content": "Say hello in a few words."}]


class Skipped(Exception):
    pass


def expert():
    named = os.environ.get("CONCLAVE_EXPERT")
    if named:
        return named
    return next(m.id for m in client.models.list().data if m.id != "auto")


def raw(path, body=None, method=None):
    """(status, headers, parsed body) of a plain HTTP request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        URL + path, data=data, method=method,
        headers={"content-type": "application/json",
                 "authorization": "Bearer " + KEY})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            status, headers, text = (response.status, response.headers,
                                     response.read())
    except urllib.error.HTTPError as error:
        status, headers, text = error.code, error.headers, error.read()
    try:
        return status, headers, json.loads(text)
    except ValueError:
        return status, headers, text.decode()


def expect_error(kind, code, call, param=None):
    try:
        call()
    except kind as error:
        assert error.code == code, (error.code, code)
        if param is not None:
            assert error.param == param, (error.param, param)
        return error
    raise AssertionError(f"no {kind.__name__}")


def check_usage(usage):
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens >= 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def chat(**kwargs):
    kwargs.setdefault("model", "auto")
    kwargs.setdefault("messages", HELLO)
    kwargs.setdefault("max_tokens", 12)
    return client.chat.completions.create(**kwargs)


def complete(**kwargs):
    kwargs.setdefault("model", expert())
    kwargs.setdefault("prompt", "Once upon a time")
    kwargs.setdefault("max_tokens", 12)
    return client.completions.create(**kwargs)


# --- Models ----------------------------------------------------------------


def test_models_list():
    names = [m.id for m in client.models.list().data]
    assert names[0] == "auto" and len(names) >= 2, names
    assert len(set(names)) == len(names)


def test_models_get():
    name = expert()
    assert client.models.retrieve(name).id == name


def test_models_get_unknown_names_neighbours():
    error = expect_error(openai.NotFoundError, "model_not_found",
                         lambda: client.models.retrieve(expert() + "x"))
    assert expert() in error.message, error.message


# --- Chat ------------------------------------------------------------------


def test_chat():
    answer = chat()
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model != "auto"
    assert abs(answer.created - time.time()) < 3600
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.finish_reason in ("stop", "length")
    check_usage(answer.usage)
    assert answer.usage.completion_tokens <= 12


def test_chat_decision_headers():
    response = client.chat.completions.with_raw_response.create(
        model="auto", messages=HELLO, max_tokens=4,
        extra_headers={"x-request-id": f"it-{time.time_ns()}"})
    headers = response.headers
    assert headers["x-request-id"].startswith("it-")
    assert headers["x-conclave-expert"] == response.parse().model
    assert 0 <= float(headers["x-conclave-confidence"]) <= 1
    assert "x-conclave-category" in headers


def test_chat_by_name_bypasses():
    name = expert()
    assert chat(model=name).model == name


def test_chat_content_parts_and_history():
    answer = chat(messages=[
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"},
                                     {"type": "text", "text": "there"}]},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye"}])
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_chat_answer_can_be_sent_back():
    first = chat()
    message = first.choices[0].message
    second = chat(messages=HELLO + [message,
                                    {"role": "user", "content": "More."}])
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    # Clients also send the whole dump, nulls and all.
    chat(messages=HELLO + [message.model_dump(),
                           {"role": "user", "content": "More."}])


def test_chat_stream_equals_whole():
    asked = dict(seed=7, temperature=0, max_tokens=16, model=expert())
    whole = chat(**asked)
    text, reasons, roles, usages = "", [], [], []
    for chunk in chat(stream=True, stream_options={"include_usage": True},
                      **asked):
        assert chunk.object == "chat.completion.chunk"
        if chunk.usage is not None:
            usages.append(chunk.usage)
            assert chunk.choices == []
        for choice in chunk.choices:
            text += choice.delta.content or ""
            if choice.delta.role:
                roles.append(choice.delta.role)
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
    assert text == whole.choices[0].message.content
    assert reasons == [whole.choices[0].finish_reason]
    assert roles == ["assistant"]
    assert len(usages) == 1
    assert usages[0].total_tokens == whole.usage.total_tokens


def test_chat_stream_without_usage():
    assert all(chunk.usage is None for chunk in chat(stream=True))


def test_chat_stream_raw_framing():
    with client.chat.completions.with_streaming_response.create(
            model="auto", messages=HELLO, max_tokens=4,
            stream=True) as response:
        assert response.headers["content-type"].startswith(
            "text/event-stream")
        assert response.headers["x-conclave-expert"]
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert sum(line == "data: [DONE]" for line in lines) == 1


def test_chat_logprobs():
    answer = chat(logprobs=True, top_logprobs=3, seed=3)
    content = answer.choices[0].logprobs.content
    assert len(content) >= answer.usage.completion_tokens - 1
    for entry in content:
        assert entry.logprob <= 0 and math.isfinite(entry.logprob)
        assert len(entry.top_logprobs) == 3
        values = [t.logprob for t in entry.top_logprobs]
        assert values == sorted(values, reverse=True)
        for token in [entry] + entry.top_logprobs:
            if not token.token.startswith("bytes:"):
                assert bytes(token.bytes).decode() == token.token
    joined = b"".join(bytes(e.bytes) for e in content)
    # The text may end before a last, incomplete character or a special token.
    text = answer.choices[0].message.content.encode()
    assert joined.startswith(text) or text.startswith(joined)


def test_chat_logprobs_without_alternatives():
    answer = chat(logprobs=True)
    assert all(e.top_logprobs == [] for e in
               answer.choices[0].logprobs.content)
    assert chat().choices[0].logprobs is None


def test_chat_seed_repeats():
    asked = dict(seed=11, temperature=1.0, max_tokens=16, model=expert())
    texts = {chat(**asked).choices[0].message.content for _ in range(3)}
    assert len(texts) == 1, texts


def test_chat_greedy_ignores_seed():
    texts = {chat(seed=s, temperature=0,
                  model=expert()).choices[0].message.content
             for s in (1, 2)}
    assert len(texts) == 1, texts


def test_chat_seeds_differ():
    texts = {chat(seed=s, temperature=1.5, max_tokens=24,
                  model=expert()).choices[0].message.content
             for s in range(6)}
    assert len(texts) > 1


def test_chat_n():
    answer = chat(n=2, seed=5, temperature=1.0)
    assert [c.index for c in answer.choices] == [0, 1]
    assert answer.usage.completion_tokens <= 24
    seen = {0: "", 1: ""}
    for chunk in chat(n=2, seed=5, temperature=1.0, stream=True,
                      model=answer.model):
        for choice in chunk.choices:
            seen[choice.index] += choice.delta.content or ""
    if answer.model == expert():
        assert [seen[0], seen[1]] == [c.message.content
                                      for c in answer.choices]


def test_chat_max_completion_tokens():
    answer = chat(max_tokens=openai.NOT_GIVEN, max_completion_tokens=3,
                  extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_chat_tools_are_accepted():
    chat(tools=[{"type": "function", "function": {
        "name": "lookup", "description": "looks up",
        "parameters": {"type": "object", "properties": {}}}}],
        tool_choice="none")


def test_chat_abort_frees_the_server():
    stream = chat(stream=True, max_tokens=2000, model=expert(),
                  extra_body={"ignore_eos": True})
    for i, _ in enumerate(stream):
        if i == 2:
            break
    stream.close()
    started = time.time()
    chat(max_tokens=1)
    assert time.time() - started < 30
    deadline = time.time() + 5
    while metric("vllm:num_requests_running") > 0:
        assert time.time() < deadline, "the aborted request still runs"
        time.sleep(0.05)


# --- Plain completions -----------------------------------------------------


def test_completion():
    answer = complete()
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].finish_reason in ("stop", "length")
    check_usage(answer.usage)


def test_completion_default_length_is_16():
    answer = complete(max_tokens=openai.NOT_GIVEN,
                      extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16


def test_completion_ignore_eos_and_exact_length():
    answer = complete(max_tokens=40, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 40
    assert answer.choices[0].finish_reason == "length"


def test_completion_token_ids():
    one = complete(prompt=TOKENS, seed=1, temperature=0)
    two = complete(prompt=[TOKENS], seed=1, temperature=0)
    assert one.usage.prompt_tokens == len(TOKENS)
    assert one.choices[0].text == two.choices[0].text


def test_completion_echo():
    prompt = "Once upon a time"
    plain = complete(prompt=prompt, seed=2, temperature=0)
    echoed = complete(prompt=prompt, seed=2, temperature=0, echo=True)
    assert echoed.choices[0].text == prompt + plain.choices[0].text


def test_completion_echo_scores_the_prompt():
    prompt = "The cat sat on the mat"
    answer = complete(prompt=prompt, echo=True, logprobs=5, max_tokens=0)
    (choice,) = answer.choices
    assert choice.text == prompt
    assert answer.usage.completion_tokens == 0
    assert choice.finish_reason == "length"
    scores = choice.logprobs
    assert len(scores.tokens) == answer.usage.prompt_tokens
    assert scores.token_logprobs[0] is None and scores.top_logprobs[0] is None
    check_scores(scores, prompt, 5)


def test_completion_echo_and_answer_scores():
    prompt = "The cat sat"
    answer = complete(prompt=prompt, echo=True, logprobs=1, max_tokens=4,
                      extra_body={"ignore_eos": True})
    scores = answer.choices[0].logprobs
    assert len(scores.tokens) == answer.usage.total_tokens
    check_scores(scores, answer.choices[0].text, 1)


def check_scores(scores, text, alternatives):
    size = len(scores.tokens)
    assert len(scores.token_logprobs) == len(scores.top_logprobs) == size
    assert len(scores.text_offset) == size
    assert scores.text_offset == sorted(scores.text_offset)
    for token, logprob, top in list(zip(
            scores.tokens, scores.token_logprobs, scores.top_logprobs))[1:]:
        assert logprob <= 0
        assert top[token] == logprob
        # The chosen one is added when it is not among the best; two tokens
        # of one text share a key.
        assert 1 <= len(top) <= alternatives + 1, len(top)
        assert max(top.values()) >= logprob
    if not any(t.startswith("bytes:") for t in scores.tokens):
        joined = "".join(scores.tokens)
        # A model may begin with a token that is not in the text.
        assert joined.endswith(text) or joined.startswith(text), joined


def test_completion_stream_equals_whole():
    asked = dict(seed=4, temperature=0, echo=True, logprobs=2, max_tokens=8)
    whole = complete(**asked)
    text, tokens, offsets = "", [], []
    for chunk in complete(stream=True, **asked):
        for choice in chunk.choices:
            text += choice.text
            if choice.logprobs:
                tokens += choice.logprobs.tokens
                offsets += choice.logprobs.text_offset
    assert text == whole.choices[0].text
    assert tokens == whole.choices[0].logprobs.tokens
    assert offsets == whole.choices[0].logprobs.text_offset


def test_completion_stop():
    asked = dict(seed=6, temperature=0, max_tokens=40,
                 extra_body={"ignore_eos": True})
    text = complete(**asked).choices[0].text
    stop = text[len(text) // 2:len(text) // 2 + 3]
    cut = complete(stop=[stop, "never in there"], **asked)
    assert stop not in cut.choices[0].text
    assert cut.choices[0].text == text[:text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    streamed = "".join(c.choices[0].text for c in
                       complete(stop=stop, stream=True, **asked) if c.choices)
    assert streamed == cut.choices[0].text


def test_completion_n_with_seed():
    asked = dict(n=3, seed=9, temperature=1.0)
    one, two = complete(**asked), complete(**asked)
    assert [c.text for c in one.choices] == [c.text for c in two.choices]
    assert [c.index for c in one.choices] == [0, 1, 2]


def test_completion_sampling_fields_are_taken():
    complete(temperature=0.7, top_p=0.9, presence_penalty=0.5,
             frequency_penalty=-0.5, logit_bias={"5": -100}, user="me",
             extra_body={"top_k": 20, "min_p": 0.05,
                         "repetition_penalty": 1.1})


# --- Errors ----------------------------------------------------------------


def test_error_unknown_model():
    error = expect_error(openai.NotFoundError, "model_not_found",
                         lambda: chat(model=expert() + "x"))
    assert expert() in error.message, error.message


def test_error_fields_are_named():
    bad = openai.BadRequestError
    for kwargs, param, code in [
            (dict(temperature=3), "temperature", "invalid_value"),
            (dict(top_p=0), "top_p", "invalid_value"),
            (dict(n=9), "n", "invalid_value"),
            (dict(max_tokens=-1), "max_tokens", "invalid_value"),
            (dict(stop=[""]), "stop[0]", "invalid_value"),
            (dict(messages=[]), "messages", "invalid_value"),
            (dict(messages=[{"role": "wizard", "content": "x"}]),
             "messages[0].role", "invalid_value"),
            (dict(logprobs=True, top_logprobs=21), "top_logprobs",
             "invalid_value"),
            (dict(response_format={"type": "json_object"}),
             "response_format", "unsupported_value"),
            (dict(extra_body={"temprature": 1}), "temprature",
             "unknown_field"),
            (dict(extra_body={"seed": "x"}), "seed", "invalid_type")]:
        error = expect_error(bad, code, lambda: chat(**kwargs), param)
        assert error.type == "invalid_request_error"
        assert error.request_id


def test_error_context_length():
    expect_error(openai.BadRequestError, "context_length_exceeded",
                 lambda: complete(prompt="word " * 200_000, max_tokens=1))


def test_error_body_not_json():
    request = urllib.request.Request(
        URL + "/v1/chat/completions", data=b"{nope",
        headers={"content-type": "application/json",
                 "authorization": "Bearer " + KEY})
    try:
        urllib.request.urlopen(request, timeout=30)
        raise AssertionError("taken")
    except urllib.error.HTTPError as error:
        assert error.code == 400
        assert json.load(error)["error"]["code"] == "invalid_json"


def test_error_unknown_route_and_method():
    status, _, body = raw("/v1/nothing")
    assert status == 404 and body["error"]["code"] == "unknown_route"
    status, headers, body = raw("/v1/chat/completions")
    assert status == 405 and headers["allow"] == "POST"


def test_error_busy_and_down():
    if not FAKE:
        raise Skipped("needs the fake")
    error = expect_error(openai.RateLimitError, "rate_limit_exceeded",
                         lambda: chat(model="busy"))
    assert int(error.response.headers["retry-after"]) > 0
    error = expect_error(openai.InternalServerError, "unavailable",
                         lambda: chat(model="down"))
    assert "10.0.0.7" not in error.message
    error = expect_error(openai.InternalServerError, "internal_error",
                         lambda: chat(model="leaky"))
    assert "secret" not in error.message


def test_error_mid_stream():
    if not FAKE:
        raise Skipped("needs the fake")
    seen = 0
    try:
        for chunk in chat(model="broken", stream=True,
                          extra_body={"ignore_eos": True}):
            seen += 1
    except openai.APIError as error:
        assert error.code == "data_loss", error
        assert seen >= 3
        return None
    raise AssertionError("a broken stream looked whole")


# --- Embeddings ------------------------------------------------------------


def test_embeddings():
    answer = client.embeddings.create(
        model=ENCODER, input=["a cat", "a dog", "a cat"],
        encoding_format="float")
    vectors = [d.embedding for d in answer.data]
    assert [d.index for d in answer.data] == [0, 1, 2]
    assert vectors[0] == vectors[2] != vectors[1]
    assert answer.usage.prompt_tokens > 0
    status, _, body = raw("/v1/embeddings", {
        "model": ENCODER, "input": "a cat", "encoding_format": "base64"})
    assert status == 200
    packed = base64.b64decode(body["data"][0]["embedding"])
    coded = struct.unpack(f"<{len(packed) // 4}f", packed)
    assert all(abs(a - b) < 1e-6 for a, b in zip(coded, vectors[0]))
    assert len(coded) == len(vectors[0])
    # The client's own default is base64, which it decodes itself.
    same = client.embeddings.create(model=ENCODER, input="a cat")
    assert len(same.data[0].embedding) == len(vectors[0])


def test_embeddings_errors():
    expect_error(openai.BadRequestError, "invalid_value",
                 lambda: client.embeddings.create(model=ENCODER, input=[]),
                 "input")
    expect_error(openai.BadRequestError, "unsupported_value",
                 lambda: client.embeddings.create(
                     model=ENCODER, input="x", dimensions=4), "dimensions")
    expect_error(openai.NotFoundError, "model_not_found",
                 lambda: client.embeddings.create(
                     model="no-such-encoder", input="x"))


# --- Decisions -------------------------------------------------------------

DECISION_KEYS = ["request_id", "expert", "category", "confidence", "novelty",
                 "posterior", "candidates", "tier", "router_us", "versions",
                 "why"]


def test_route():
    status, _, decision = raw("/v1/route", {"messages": HELLO})
    assert status == 200, decision
    assert list(decision) == DECISION_KEYS, list(decision)
    assert abs(sum(decision["posterior"].values()) - 1) < 1e-3
    assert decision["tier"] in ("ngram", "encoder", "bypass")
    for candidate in decision["candidates"]:
        assert list(candidate) == ["expert", "quality", "cost", "score",
                                   "propensity", "why"]
    assert decision["expert"] in [c["expert"] for c in
                                  decision["candidates"]]


def test_decision_and_feedback_later():
    response = client.chat.completions.with_raw_response.create(
        model="auto", messages=HELLO, max_tokens=4)
    request_id = response.headers["x-request-id"]
    status, _, answer = raw("/v1/feedback", {
        "request_id": request_id, "score": 0.75, "comment": "fine"})
    assert status == 200, answer
    deadline = time.time() + 5
    while True:
        status, _, record = raw("/v1/decisions/" + request_id)
        assert status == 200, record
        if record["outcome"] is not None or time.time() > deadline:
            break
        time.sleep(0.05)
    assert list(record) == DECISION_KEYS + ["outcome", "feedback"]
    assert record["request_id"] == request_id
    assert record["expert"] == response.headers["x-conclave-expert"]
    assert record["outcome"]["status"] == "OK"
    assert record["feedback"][0]["score"] == 0.75
    assert record["feedback"][0]["comment"] == "fine"


def test_decision_unknown():
    status, _, body = raw("/v1/decisions/never-was")
    assert status == 404 and body["error"]["code"] == "decision_not_found"
    status, _, body = raw("/v1/feedback",
                          {"request_id": "never-was", "score": 1})
    assert status == 404


# --- Probes and metrics ----------------------------------------------------


def metric(name):
    """The sum of a metric's series."""
    _, _, text = raw("/metrics")
    values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
              if line.startswith(name + "{") or line.startswith(name + " ")]
    return sum(values)


def test_probes():
    assert raw("/livez")[0] == 200
    status, _, body = raw("/readyz")
    assert status == 200 and body == {"ready": True, "reasons": []}


def test_metrics_count():
    before = metric("vllm:generation_tokens_total")
    answer = complete(max_tokens=5, extra_body={"ignore_eos": True})
    after = metric("vllm:generation_tokens_total")
    assert after - before >= answer.usage.completion_tokens
    for name in ("vllm:time_to_first_token_seconds_count",
                 "vllm:e2e_request_latency_seconds_count",
                 "vllm:prompt_tokens_total", "vllm:request_success_total",
                 "conclave_router_decisions_total"):
        assert metric(name) > 0, name


def test_async_client_many_at_once():
    import asyncio

    async def go():
        many = openai.AsyncOpenAI(base_url=URL + "/v1", api_key=KEY,
                                  max_retries=0, timeout=120)
        asked = dict(model=expert(), messages=HELLO, max_tokens=8, seed=1,
                     temperature=1.0)
        answers = await asyncio.gather(*[
            many.chat.completions.create(**asked) for _ in range(8)])
        await many.close()
        return {a.choices[0].message.content for a in answers}

    assert len(asyncio.run(go())) == 1


def main():
    wanted = sys.argv[1:]
    tests = [(name, function) for name, function in globals().items()
             if name.startswith("test_") and callable(function)
             and (not wanted or any(w in name for w in wanted))]
    passed = failed = skipped = 0
    for name, function in tests:
        started = time.time()
        try:
            function()
            passed += 1
            print(f"ok    {name} {time.time() - started:.2f}s")
        except Skipped as reason:
            skipped += 1
            print(f"skip  {name}: {reason}")
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"FAIL  {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
