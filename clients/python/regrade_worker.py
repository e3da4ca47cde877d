"""The Python side of regrade's worker protocol (version 1). No dependencies; Python 3.8 or newer.

A worker is a program that ``regrade`` starts once a launch. It reads one JSON request from the environment variable
``REGRADE_REQUEST`` and appends messages, one JSON object a line, to the file or pipe named by ``REGRADE_OUTPUT``.
Standard output and error stay the program's own and are kept as a log.

The whole of a simple worker::

    from regrade_worker import benchmark

    @benchmark
    def work(request):
        a = make_matrix(int(request.param("n", 512)), seed=request.seed)
        return lambda: a @ a          # what is timed; set-up above is not

    if __name__ == "__main__":
        work()

With more to say::

    from regrade_worker import Worker, time_loop

    with Worker() as w:
        model = load(w.request.param("checkpoint"))
        w.device("torch", "NVIDIA H100", driver="570.1")
        time_loop(model.step, w, synchronize=torch.cuda.synchronize)
        w.check("logits", "f64 forward pass", error=1e-6, tolerance=1e-4)
        w.value("peak_memory", peak_bytes())

A program of several processes (``torchrun``, ``mpirun``, ``srun``) reports once: every process but rank 0 stays
silent. All of them run the same iterations if they agree on what was measured, see :func:`time_loop`.

Leaving the ``with`` block sends the outcome: ``measured``, ``failed`` after an exception or a check that did not pass, or
``out_of_memory`` after a ``MemoryError``. ``raise Skip("no GPU here")`` sends ``skipped``. A worker that dies without an
outcome has failed.
"""

import functools
import json
import os
import sys
import time

PROTOCOL = 1
VERSION = "0.1.0"

#: Where launchers say which of several processes this is, the innermost launcher first: torchrun, Open MPI, MPICH and
#: Intel MPI, Slurm. The first one that is set counts.
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")

__all__ = ["METRICS", "PROTOCOL", "Request", "Skip", "Worker", "benchmark", "metric", "rank", "time_loop"]

#: Metrics that regrade itself knows: name -> (unit, direction, kind, derived). Values of a derived metric restate
#: another one; they are shown and never judged.
METRICS = {
    "latency": ("s", "lower_is_better", "timing", False),
    "cpu_time": ("s", "lower_is_better", "timing", False),
    "load_time": ("s", "lower_is_better", "timing", False),
    "peak_memory": ("B", "lower_is_better", "size", False),
    "throughput": ("items/s", "higher_is_better", "rate", True),
    "flop_rate": ("FLOP/s", "higher_is_better", "rate", True),
    "byte_rate": ("B/s", "higher_is_better", "rate", True),
}


class Skip(Exception):
    """Raised by a worker that cannot run here: hardware, library or precision is missing. Says why."""


def metric(name, unit=None, direction=None, kind=None, exact=False, derived=None):
    """Describe a metric as the protocol wants it.

    ``direction`` is ``lower_is_better``, ``higher_is_better`` or ``unknown`` (reported, never failed); ``kind`` is
    ``timing``, ``rate``, ``size``, ``count`` or ``ratio``; ``unit`` is an SI symbol (``s``, ``B``, ``1``). What is left
    out comes from :data:`METRICS`, or for other names means "a dimensionless ratio of unknown direction".
    ``exact`` metrics carry no noise: any difference is a change.
    """
    known = METRICS.get(name, ("1", "unknown", "ratio", False))
    return {
        "name": name,
        "unit": known[0] if unit is None else unit,
        "direction": known[1] if direction is None else direction,
        "kind": known[2] if kind is None else kind,
        "exact": exact,
        "derived": known[3] if derived is None else derived,
    }


def rank():
    """Which of several processes this is, by its launcher's word (:data:`RANKS`); 0 for a single one."""
    for name in RANKS:
        text = os.environ.get(name, "").strip()
        if text.isdigit():
            return int(text)
    return 0


class Request:
    """What this worker is asked to do. Fields it does not know are kept in :attr:`raw`."""

    def __init__(self, raw):
        if not isinstance(raw, dict) or not isinstance(raw.get("case"), dict):
            raise ValueError("REGRADE_REQUEST: an object with a `case` was expected")
        version = raw.get("protocol", PROTOCOL)
        if version > PROTOCOL:
            raise ValueError(
                "REGRADE_REQUEST: protocol version %s asked for, this module speaks %s: update regrade_worker.py"
                % (version, PROTOCOL)
            )
        case = raw["case"]
        sampling = case.get("sampling") or {}
        #: The request as it came.
        self.raw = raw
        #: The case's stable id.
        self.case_id = case.get("id", "")
        #: Parameters and axis values of the case.
        self.params = (case.get("workload") or {}).get("params") or {}
        #: Seed of weights and inputs, the same in every launch of a run.
        self.seed = raw.get("seed", 0)
        #: Which launch of this case this is, from 0.
        self.launch = raw.get("launch", 0)
        #: Seconds until this process is killed.
        self.time_budget_s = raw.get("time_budget_s", 600.0)
        #: Extra real work asked for as a fraction of the work (0.3 is 30 %); zero in honest runs.
        self.inject = raw.get("inject", 0.0)
        #: Fewest and most samples to keep.
        self.min_samples = sampling.get("min_samples", 10)
        self.max_samples = sampling.get("max_samples", 200)
        #: Stop when the 95 % interval of the median is within this share of it on both sides.
        self.precision = sampling.get("precision", 0.01)
        #: Caps on sampling and warm-up, and the shortest useful sample, all in seconds.
        self.max_time_s = sampling.get("max_time_s", 3.0)
        self.max_warmup_s = sampling.get("max_warmup_s", 2.0)
        self.min_sample_time_s = sampling.get("min_sample_time_s", 0.001)

    @classmethod
    def from_env(cls):
        """Read ``REGRADE_REQUEST``; without it, a request with every default, so that a worker can be tried by hand."""
        text = os.environ.get("REGRADE_REQUEST")
        if text is None:
            return cls({"protocol": PROTOCOL, "case": {}})
        try:
            return cls(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError("REGRADE_REQUEST is not JSON: %s" % error) from None

    def param(self, name, default=None):
        """A parameter or axis value of the case."""
        return self.params.get(name, default)


class Worker:
    """The way back to regrade. Use as a context manager; see the module's documentation.

    Without ``REGRADE_OUTPUT`` the messages go to standard output, so that a worker can be tried by hand. Where several
    processes make up one program only that of rank 0 sends anything; ``speaks`` overrides what :func:`rank` makes of
    the environment: for other launchers, and for programs that inherit a rank and are alone all the same.
    """

    def __init__(self, client="regrade_worker.py", version=VERSION, speaks=None):
        #: What is asked for.
        self.request = Request.from_env()
        self._ended = False
        self._wrong = []
        #: Whether messages are sent, or this is one of the silent processes of several.
        self.speaks = rank() == 0 if speaks is None else bool(speaks)
        path = os.environ.get("REGRADE_OUTPUT") if self.speaks else os.devnull
        self._file = open(path, "a", encoding="utf-8") if path else sys.stdout
        self.send("hello", protocol=PROTOCOL, client=client, version=version)

    def send(self, kind, /, **fields):
        """Send one message. It is flushed at once: what was said before a crash is not lost."""
        if self._ended:
            raise RuntimeError("the outcome was sent: nothing may follow it")
        # NaN and infinity are no JSON: refuse them here, where the traceback shows who made them.
        line = json.dumps(dict(type=kind, **fields), allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def device(self, backend, name, **facts):
        """Say what this runs on: a library or runtime, the device as a person knows it, and stable facts."""
        self.send("device", backend=backend, name=name, facts=facts)

    def samples(self, name, values, iterations=1, clock="monotonic", **description):
        """Send the samples of a metric: one value a timed batch, already divided by ``iterations``, in its unit.

        ``description`` is what :func:`metric` takes.
        """
        self.send(
            "samples",
            metric=metric(name, **description),
            iterations=int(iterations),
            clock=clock,
            values=[float(value) for value in values],
        )

    def value(self, name, value, **description):
        """Send a metric with a single value a launch: peak memory, load time, number of kernels."""
        self.send("value", metric=metric(name, **description), value=float(value))

    def check(self, name, reference, error, tolerance):
        """Send a numeric comparison. A NaN error does not pass. Returns whether it passed.

        ``reference`` says in words what was compared with. A check that fails makes the launch ``failed``.
        """
        passed = bool(error <= tolerance)
        if not passed:
            self._wrong.append(name)
        # JSON has no NaN or infinity; the largest float stands for both.
        finite = error if abs(error) <= sys.float_info.max else sys.float_info.max
        self.send(
            "check", name=name, reference=reference, error=float(finite), tolerance=float(tolerance), **{"pass": passed}
        )
        return passed

    def evidence(self, source="worker", **facts):
        """Send telemetry. Names carry their unit as a suffix: ``gpu_clock_mhz``, ``power_w``."""
        self.send("evidence", source=source, facts=facts)

    def warmup(self, iterations, seconds, settled):
        """Say how the warm-up went; ``settled`` is false if a cap ended it while samples still trended."""
        self.send("warmup", iterations=int(iterations), seconds=float(seconds), settled=bool(settled))

    def stop(self, reason):
        """Say why sampling stopped: ``precise``, ``max_samples`` or ``max_time``."""
        self.send("stop", reason=reason)

    def outcome(self, kind, reason=None):
        """End: ``measured``, ``skipped``, ``failed`` or ``out_of_memory``, with a reason for all but the first."""
        fields = {"kind": kind}
        if reason is not None:
            fields["reason"] = reason
        self.send("outcome", **fields)
        self._ended = True

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _traceback):
        try:
            if self._ended:
                return False
            if error is None and self._wrong:
                self.outcome("failed", "wrong numbers: " + ", ".join(self._wrong))
            elif error is None:
                self.outcome("measured")
            elif isinstance(error, Skip):
                self.outcome("skipped", str(error) or "no reason given")
                return True  # not a crash: the process ends with code 0
            elif isinstance(error, MemoryError) or kind.__name__ == "OutOfMemoryError":
                self.outcome("out_of_memory", _describe(error))
            else:
                self.outcome("failed", _describe(error))
            return False
        finally:
            if self._file is not sys.stdout:
                self._file.close()


def _describe(error):
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    return type(error).__name__ + (": " + first if first else "")


def time_loop(fn, worker, synchronize=None, clock=time.perf_counter, cpu_clock=time.process_time, agree=None):
    """Warm ``fn`` up, time it by the request's sampling numbers, and send what came out.

    ``synchronize`` is called before each clock reading where work runs on after ``fn`` returned (GPUs). Iterations a
    sample are raised until a sample lasts ``min_sample_time_s``; the garbage collector is off while sampling. Sends
    ``latency``, ``cpu_time``, the warm-up and the stop reason; returns the latencies in seconds.

    Where several processes run ``fn`` together, each must call it equally often: ``agree`` takes a list of floats and
    returns the same list on every process. Let it be the largest of each, since all wait for the slowest. With PyTorch::

        def agree(numbers):
            numbers = torch.tensor(numbers, dtype=torch.float64, device="cuda")
            torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX)
            return numbers.tolist()

    With ``inject`` the loop does that much more real work inside the timed region and divides by the iterations it
    was asked for, so that the samples are that much worse.
    """
    import gc

    request = worker.request
    wait = synchronize or (lambda: None)
    agreed = agree or (lambda numbers: numbers)

    def batch(iterations):
        repeats = _injected(iterations, request.inject)
        wait()
        cpu_start, start = cpu_clock(), clock()
        for _ in range(repeats):
            fn()
        wait()
        wall, cpu = clock() - start, cpu_clock() - cpu_start
        return agreed([wall / iterations, cpu / iterations])

    def since(start):
        return agreed([clock() - start])[0]

    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        iterations = _warm_up(batch, worker, clock, since)
        wall, cpu = [], []
        begin = clock()
        while True:
            seconds, cpu_seconds = batch(iterations)
            wall.append(seconds)
            cpu.append(cpu_seconds)
            if len(wall) < request.min_samples:
                continue
            if _half_width(wall) <= request.precision:
                reason = "precise"
            elif len(wall) >= request.max_samples:
                reason = "max_samples"
            elif since(begin) >= request.max_time_s:
                reason = "max_time"
            else:
                continue
            break
    finally:
        if enabled:
            gc.enable()
    worker.samples("latency", wall, iterations)
    worker.samples("cpu_time", cpu, iterations, clock="process-cpu")
    worker.stop(reason)
    return wall


def _injected(iterations, share):
    """Iterations really run. At least one more than asked for if anything is to be injected."""
    extra = iterations * share
    return iterations + (max(1, round(extra)) if extra > 0 else 0)


def _warm_up(batch, worker, clock, since):
    """Run until the last five batches stop trending or the cap is reached; returns the iterations a sample.

    Trending means that the median of the later half of the last ten batches is more than 2 % below that of the half
    before: caches, clocks and compilers still make it faster.
    """
    request = worker.request
    # A share of the injected work must come to whole iterations.
    iterations = 1 if request.inject <= 0 else max(1, round(1 / min(request.inject, 1)))
    total, recent, settled = 0, [], False
    begin = clock()
    while not settled:
        seconds = batch(iterations)[0]
        total += iterations
        if seconds * iterations < request.min_sample_time_s:
            # Aim a little above the least, at most tenfold at once: the first readings are the worst.
            wanted = 1.2 * request.min_sample_time_s / max(seconds, 1e-9)
            iterations = min(10 * iterations, max(iterations + 1, int(wanted)))
            recent = []
        else:
            recent.append(seconds)
        if len(recent) >= 10:
            settled = _median(recent[-5:]) >= 0.98 * _median(recent[-10:-5])
        if since(begin) >= request.max_warmup_s:
            break
    worker.warmup(total, clock() - begin, settled)
    return iterations


def _median(values):
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def _half_width(values):
    """Larger side of the 95 % interval of the median as a share of it, from order statistics.

    The interval runs between the ranks n/2 -+ 0.98 sqrt(n) (normal approximation of the binomial), ends included.
    """
    ordered = sorted(values)
    count = len(ordered)
    reach = 0.98 * count**0.5
    low = max(0, int(count / 2 - reach))
    high = min(count - 1, int(count / 2 + reach))
    middle = _median(ordered)
    if middle <= 0:
        return float("inf")
    return max(middle - ordered[low], ordered[high] - middle) / middle


def benchmark(setup):
    """Turn a function that prepares work into a whole worker; see the module's documentation.

    ``setup(request)`` returns the function to time. Its own duration is sent as ``load_time``.
    """

    @functools.wraps(setup)
    def main():
        with Worker() as worker:
            start = time.perf_counter()
            work = setup(worker.request)
            worker.value("load_time", time.perf_counter() - start)
            time_loop(work, worker)

    return main
