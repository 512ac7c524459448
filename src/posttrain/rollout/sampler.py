"""The sampler: our own decoder for causal language models of transformers, as a `Model`.

Continuous batching over a fixed number of slots: a prompt is prefilled once for its n samples, a finished row leaves at once and the next
sample or prompt takes its slot. Llama-like models run on `Fused`, every other one on `Cohorts`; the loop is the same.

    sampler = Sampler(model, tokenizer, stop_ids, encode)
    groups = sampler.generate([Request(as_chat("2+2?"), Sampling(max_tokens=16), n=8, seed=1)])

Every token is kept with `logp` at the sampling temperature before truncation and `sampled_logp` after it, so that on-policy methods
may trust ratio 1 after the trainer's own check. After a weight update call `sync`: the fused copies are refreshed and the version grows.
Leaves out speculative decoding, beam search and encoder-decoder models.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posttrain.core.chat import Chat, as_chat, assistant
from posttrain.core.files import crash_point
from posttrain.core.group import Group, Response
from posttrain.core.protocols import Event, Request, Sampling, Steer
from posttrain.rollout.attention import Edit
from posttrain.rollout.cohorts import Cohorts
from posttrain.rollout.draw import Chooser, draw, row_key
from posttrain.rollout.fused import Fused
from posttrain.rollout.jobs import Job, Sample, check
from posttrain.rollout.native import threads_of
from posttrain.rollout.score import group_logps
from posttrain.rollout.text import TextStream
from posttrain.rollout.weights import read_decoder

PLAIN = Sampling()
Encode = Callable[[Chat, tuple[Mapping[str, Any], ...]], Sequence[int]]


class Sampler:
    """Answers requests with a causal LM.

    stop_ids: tokens that end an answer (kept as its last token). encode: (chat, tools) -> prompt ids with the generation prompt.
    slots: rows decoded together. max_context: prompt and answer in tokens (default: the model's own limit). threads: torch threads
    while decoding; None = one on CPU for models up to 1,024 wide (more only adds waiting there), else torch's setting.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        stop_ids: Iterable[int],
        encode: Encode,
        slots: int = 32,
        max_context: int | None = None,
        threads: int | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
        config = model.config
        own = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 4096
        if max_context is not None and max_context > own:
            raise ValueError(f"max_context {max_context} exceeds the {own} positions of the model")
        self.model, self.tokenizer, self.encode, self.slots = model, tokenizer, encode, slots
        self.max_context = max_context or own
        self.stop_ids = frozenset(int(i) for i in stop_ids)
        self.version = 0
        self.cancelled: set[str] = set()
        self.fused = read_decoder(model, self.max_context) is not None
        self.threads = threads_of(model) if threads is None else threads
        self._stop = torch.tensor(sorted(self.stop_ids), dtype=torch.long, device=next(model.parameters()).device)
        self.edit: Edit | None = None  # a change of hidden states, for all rows (steering vectors)
        self.like: Sampler | None = None  # of the same model and context: its copies of the weights serve this one, too
        self._decoder: Fused | Cohorts | None = None
        self._building = threading.Lock()
        self._seen_weights = self._weights_mark()

    # -- weights -------------------------------------------------------------------------------------------------------------------

    def sync(self, model: Any | None = None, version: int | None = None) -> None:
        """Take the model's weights as they are now (its tensors may be the ones already used). Bumps `version`, or sets it."""
        self.model = self.model if model is None else model
        if self._decoder is not None:
            self._decoder.refresh(self.model, self._alike())
        self.version = self.version + 1 if version is None else version
        self._seen_weights = self._weights_mark()

    def _weights_mark(self) -> int:
        return sum(p._version for p in self.model.parameters())

    def rest(self) -> None:
        """Let go of copied weights and caches until the next request, which makes them anew: memory for an update in between."""
        self._decoder = None

    def cancel(self, id: str) -> None:
        """End all answers of the request with this id; their last event says ``cancelled``. An unknown id is ignored."""
        self.cancelled.add(id)

    # -- entries -------------------------------------------------------------------------------------------------------------------

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Events as tokens come, answers of several requests interleaved.

        Requests are taken from the iterable as slots become free; None in it says that none is ready yet (an iterable that has nothing
        at all to decode should wait instead, or this spins). An event's id is the request's, or its number in the order taken. Text is
        settled: no half characters, no beginning of a stop string.
        """
        for samples in self._run(self.jobs(requests), follow=True):
            for s in samples:
                fresh = s.tokens[-1:] if s.stop != "cancelled" else []
                yield Event(
                    id=s.job.id,
                    index=s.index,
                    text=s.news,
                    tokens=tuple(fresh),
                    logps=tuple(s.logps[-1:]) if fresh else (),
                    sampled_logps=tuple(s.sampled_logps[-1:]) if fresh else (),
                    stop=s.stop,
                )

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request, in order, with its n responses in order of their index."""
        jobs = list(self.jobs(requests))
        done = self._finish(jobs)
        return [self.group(job, samples) for job, samples in zip(jobs, done, strict=True)]

    def decode(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling = PLAIN, n: int = 1, seed: int = 0
    ) -> list[list[Sample]]:
        """Token-level form: n samples of each prompt of ids, in order."""
        return self._finish([self.job(list(ids), sampling, n, seed, str(i)) for i, ids in enumerate(prompts)])

    def turns(self, asks: Sequence[tuple[Sequence[int], Sampling, int]]) -> list[Sample]:
        """One sample of each (ids, sampling, seed), in order: the next turns of conversations that are already tokens."""
        jobs = [self.job(list(ids), s, 1, seed, str(i)) for i, (ids, s, seed) in enumerate(asks)]
        return [samples[0] for samples in self._finish(jobs)]

    def logp(self, groups: Sequence[Group], temperature: float = 1.0) -> list[list[Tensor]]:
        """Log-probability of each response token under the model now, by its own forward: one tensor [tokens] per response.

        A response without tokens is encoded as its text alone, without a stop token.
        """
        with torch.no_grad(), self._pinned():
            return [group_logps(self.model, self.tokenizer, self.encode, group, temperature) for group in groups]

    # -- jobs ----------------------------------------------------------------------------------------------------------------------

    def jobs(self, requests: Iterable[Request | None]) -> Iterator[Any]:
        """Requests as jobs in tokens; None stays None. Raises ValueError for a request that cannot be answered."""
        for number, r in enumerate(requests):
            if r is None:
                yield None
                continue
            ids = list(self.encode(as_chat(r.prompt), r.tools))
            yield self.job(ids, r.sampling, r.n, r.seed, str(number) if r.id is None else r.id, r, r.steer)

    def job(
        self,
        ids: list[int],
        sampling: Sampling,
        n: int,
        seed: int,
        id: str,
        source: Any = None,
        steer: Steer | None = None,
    ) -> Job:
        """A prompt of ids to answer n times. Raises ValueError where that cannot be done, naming the request."""
        if not ids:
            raise ValueError(f"request {id}: the prompt has no tokens")
        if len(ids) >= self.max_context:
            raise ValueError(f"request {id}: {len(ids)} prompt tokens leave no room in a context of {self.max_context}")
        if n < 1 or sampling.max_tokens < 1:
            raise ValueError(f"request {id}: n and max_tokens must be at least 1, got {n} and {sampling.max_tokens}")
        check(sampling, id)
        return Job(ids, sampling, n, seed, id, source, steer)

    def _finish(self, jobs: list[Job]) -> list[list[Sample]]:
        done: dict[int, list[Sample]] = {id(job): [] for job in jobs}
        # Long prompts first would leave the last slots idle at the end; equal lengths prefill together.
        ordered = sorted(jobs, key=lambda j: len(j.ids))
        for s in self.finished(iter(ordered)):
            done[id(s.job)].append(s)
        return [sorted(done[id(job)], key=lambda s: s.index) for job in jobs]

    def finished(self, jobs: Iterator[Job | None]) -> Iterator[Sample]:
        """Samples as they end. Jobs are taken as slots become free; a None among them says that none is ready yet."""
        for samples in self._run(jobs, follow=False):
            yield from (s for s in samples if s.stop is not None)

    def drawn(
        self, job: Job, index: int, tokens: list[int], logps: list[float], more: list[float], stop: str
    ) -> Sample:
        """A sample of `job` that a sampler of the same weights drew elsewhere. more: its `sampled_logps`."""
        s = self._start(job, index, follow=False)
        s.tokens, s.logps, s.sampled_logps, s.stop = tokens, logps, more, stop
        if s.follow is not None:
            for token in tokens:
                if token not in self.stop_ids:
                    s.follow.push(token)
            s.follow.finish()
        return s

    def group(self, job: Job, samples: Iterable[Sample]) -> Group:
        """A request's job with its samples, as a Group."""
        r: Request = job.source
        responses = [
            Response(
                turns=(assistant(self.text(s)),),
                tokens=np.array(s.tokens, dtype=np.int64),
                trained=np.ones(len(s.tokens), dtype=np.int8),
                logps=np.array(s.logps, dtype=np.float32),
                sampled_logps=np.array(s.sampled_logps, dtype=np.float32),
                stop=s.stop,
                version=s.version,
            )
            for s in samples
        ]
        return Group(as_chat(r.prompt), tuple(responses), facts=r.facts, prompt_tokens=np.array(job.ids), tools=r.tools)

    def text(self, sample: Sample) -> str:
        """Text of a sample, without its stop token or stop string."""
        if sample.follow is not None:
            return sample.follow.text
        ids = sample.tokens[:-1] if sample.tokens and sample.tokens[-1] in self.stop_ids else sample.tokens
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    # -- the loop ------------------------------------------------------------------------------------------------------------------

    def _run(self, jobs: Iterator[Job | None], follow: bool) -> Iterator[list[Sample]]:
        """Decode until the jobs are used up; yields, after each step, the samples that got a token (or ended)."""
        if self._weights_mark() != self._seen_weights:
            raise ValueError(
                "the model's weights changed since the sampler read them; call sampler.sync(model) after an update"
            )
        decoder = self._take_decoder()
        live: list[Sample] = []
        waiting: deque[Job] = deque()
        try:
            while True:
                with self._pinned():
                    news = self._cancel(decoder, live, waiting)
                    fresh = self._admit(decoder, jobs, waiting, live, follow)
                    if not fresh and live:
                        fresh = self._advance(live, decoder.step([s.tokens[-1] for s in live]))
                    self._drop(decoder, live)
                    news += fresh
                if news:
                    yield news
                elif not live and not waiting and self._drained:
                    return
        finally:
            # A caller that stops listening leaves rows behind; the next run starts clean.
            with self._pinned():
                for row in range(len(live) - 1, -1, -1):
                    decoder.release(row)
                for job in waiting:
                    if job.handle is not None:
                        decoder.close(job.handle)

    def _take_decoder(self) -> Fused | Cohorts:
        decoder = self._built()
        if decoder.live:
            raise ValueError("this sampler is already decoding; finish or close that stream, or use a second Sampler")
        decoder.edit = self.edit
        return decoder

    def _built(self) -> Fused | Cohorts:
        with self._building, self._pinned():
            if self._decoder is None:
                sizes = self.slots, self.max_context
                self._decoder = Fused(self.model, *sizes, self._alike()) if self.fused else Cohorts(self.model, *sizes)
        return self._decoder

    def _alike(self) -> Fused | None:
        """The decoder that has read the weights already."""
        return self.like._built() if self.like is not None and self.fused else None  # type: ignore[return-value]

    def _admit(
        self, decoder: Any, jobs: Iterator[Job | None], waiting: deque[Job], live: list[Sample], follow: bool
    ) -> list[Sample]:
        """Fill free slots: more samples of an opened prompt first, then new prompts, prefilled together."""
        self._drained = False
        free = self.slots - len(live)
        planned = sum(job.n - job.started for job in waiting)
        fresh: list[Job] = []
        while planned < free:
            try:
                job = next(jobs)
            except StopIteration:
                self._drained = True
                break
            if job is None:
                break
            waiting.append(job)
            fresh.append(job)
            planned += job.n
        if fresh:
            handles, logits = decoder.open([j.ids for j in fresh], [j.n > 1 for j in fresh])
            for job, handle, row in zip(fresh, handles, logits, strict=True):
                job.handle, job.logits = handle, row
        began: list[Sample] = []
        rows: list[Tensor] = []
        while free and waiting:
            job = waiting[0]
            assert job.logits is not None, "a waiting job was opened"
            count = min(free, job.n - job.started)
            decoder.seat(job.handle, count)
            for index in range(job.started, job.started + count):
                began.append(self._start(job, index, follow))
                rows.append(job.logits)
            job.started += count
            free -= count
            if job.started == job.n:
                waiting.popleft()
                decoder.close(job.handle)
                job.handle = job.logits = None
        live += began
        return self._advance(began, torch.stack(rows)) if began else []

    def _start(self, job: Job, index: int, follow: bool) -> Sample:
        s = job.sampling
        chooser = Chooser(s, row_key(job.ids, job.seed, index), self._stop, steer=job.steer)
        if s.repetition_penalty != 1:
            size = self.model.get_output_embeddings().weight.shape[0]
            chooser.seen = torch.zeros(size, dtype=torch.bool, device=self._stop.device)
            chooser.seen[job.ids] = True
        if job.steer is not None:
            chooser.state = job.steer.start(job.source)
        text = TextStream(self.tokenizer, s.stop) if follow or s.stop else None
        limit = min(s.max_tokens, self.max_context - len(job.ids))
        return Sample(job, index, limit, self.version, chooser, text)

    def _advance(self, samples: list[Sample], logits: Tensor) -> list[Sample]:
        """Draw the next token of these samples and see which end."""
        crash_point("token")
        tokens, logps, sampled = draw(logits, [s.chooser for s in samples])
        for s, token, logp, drawn in zip(samples, tokens, logps, sampled, strict=True):
            if logp != logp:
                raise FloatingPointError(
                    f"request {s.job.id}: the model's logits are not finite after {len(s.tokens)} tokens"
                )
            s.tokens.append(token)
            s.logps.append(logp)
            s.sampled_logps.append(drawn)
            s.chooser.advance(token)
            if token in self.stop_ids:
                s.stop = "stop"
            elif s.follow is not None:
                s.news = s.follow.push(token)
                if s.follow.stopped:
                    s.stop = "stop"
            if s.stop is None and len(s.tokens) >= s.limit:
                s.stop = "length"
            if s.stop is not None and s.follow is not None:
                s.news = ("" if token in self.stop_ids else s.news) + s.follow.finish()
        return list(samples)

    def _cancel(self, decoder: Any, live: list[Sample], waiting: deque[Job]) -> list[Sample]:
        """End what was cancelled since the last step, samples that had not begun included."""
        if not self.cancelled:
            return []
        names, self.cancelled = self.cancelled, set()
        ended = [s for s in live if s.job.id in names]
        for s in ended:
            s.stop, s.news = "cancelled", s.follow.finish() if s.follow is not None else ""
        for job in [j for j in waiting if j.id in names]:
            waiting.remove(job)
            decoder.close(job.handle)
            ended += [self._never(job, i) for i in range(job.started, job.n)]
        self._drop(decoder, live)
        return ended

    def _drop(self, decoder: Any, live: list[Sample]) -> None:
        """Let finished rows leave: the last row takes their place, in the decoder and here."""
        for row in range(len(live) - 1, -1, -1):
            if live[row].stop is not None:
                decoder.release(row)
                live[row] = live[-1]
                live.pop()

    def _never(self, job: Job, index: int) -> Sample:
        """A sample cancelled before it began."""
        return Sample(job, index, 0, self.version, Chooser(job.sampling, 0, self._stop), stop="cancelled")

    @contextmanager
    def _pinned(self) -> Iterator[None]:
        """Our thread count and no gradients, for the duration of one step only: the caller's settings return with every event."""
        before = torch.get_num_threads()
        if self.threads and self.threads != before:
            torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)
