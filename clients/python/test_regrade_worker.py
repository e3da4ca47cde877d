"""Self-test of regrade_worker: ``python -m unittest`` in this folder."""

import json
import os
import tempfile
import unittest
from unittest import mock

import regrade_worker as rw


class FakeClock:
    """Advances by a fixed step a unit of work, so that no test depends on real time."""

    def __init__(self, step):
        self.now, self.step, self.calls = 0.0, step, 0

    def work(self):
        self.calls += 1
        self.now += self.step

    def __call__(self):
        return self.now


class WorkerTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = os.path.join(folder.name, "messages")

    def environment(self, **changes):
        request = {
            "protocol": 1,
            "case": {
                "id": "gemm/n=64@command",
                "workload": {"kind": "command", "name": "gemm", "params": {"n": 64}},
                "sampling": {"min_samples": 12, "max_samples": 20, "min_sample_time_s": 0.01},
            },
            "seed": 7,
            "launch": 2,
            "time_budget_s": 60.0,
            "a_later_field": True,
        }
        request.update(changes)
        variables = {"REGRADE_REQUEST": json.dumps(request), "REGRADE_OUTPUT": self.output}
        # Whoever runs these tests may be one of several processes.
        variables.update({name: "" for name in rw.RANKS})
        return mock.patch.dict(os.environ, variables)

    def messages(self):
        with open(self.output, encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def test_the_request_is_read(self):
        with self.environment():
            request = rw.Request.from_env()
        self.assertEqual((request.seed, request.launch, request.param("n")), (7, 2, 64))
        self.assertEqual((request.min_samples, request.max_samples, request.precision), (12, 20, 0.01))
        self.assertIsNone(request.param("absent"))
        self.assertTrue(request.raw["a_later_field"])

    def test_a_newer_protocol_is_refused(self):
        with self.environment(protocol=99), self.assertRaisesRegex(ValueError, "99"):
            rw.Worker()

    def test_nonsense_is_refused(self):
        for text in ["{", "[]", '{"protocol": 1}']:
            with mock.patch.dict(os.environ, {"REGRADE_REQUEST": text}), self.assertRaises(ValueError):
                rw.Request.from_env()

    def test_messages_have_the_protocols_form(self):
        with self.environment(), rw.Worker(client="test", version="1") as worker:
            worker.device("torch", "A100", threads=1)
            worker.samples("latency", [1, 2.5], iterations=4)
            worker.value("kernels", 12, unit="1", kind="count", exact=True)
            self.assertTrue(worker.check("logits", "f64", error=1e-7, tolerance=1e-6))
            self.assertFalse(worker.check("logits", "f64", error=float("nan"), tolerance=1e-6))
            worker.evidence(gpu_clock_mhz=1980)
        hello, device, samples, value, good, bad, evidence, outcome = self.messages()
        self.assertEqual(hello, {"type": "hello", "protocol": 1, "client": "test", "version": "1"})
        self.assertEqual(device, {"type": "device", "backend": "torch", "name": "A100", "facts": {"threads": 1}})
        self.assertEqual(samples["values"], [1.0, 2.5])
        self.assertEqual(
            samples["metric"],
            {
                "name": "latency",
                "unit": "s",
                "direction": "lower_is_better",
                "kind": "timing",
                "exact": False,
                "derived": False,
            },
        )
        self.assertEqual((value["metric"]["direction"], value["metric"]["exact"]), ("unknown", True))
        self.assertEqual((good["pass"], bad["pass"]), (True, False))
        self.assertEqual(evidence["facts"], {"gpu_clock_mhz": 1980})
        self.assertEqual(outcome, {"type": "outcome", "kind": "failed", "reason": "wrong numbers: logits"})

    def test_nan_samples_are_refused(self):
        with self.environment(), self.assertRaises(ValueError), rw.Worker() as worker:
            worker.samples("latency", [float("nan")])
        self.assertEqual(self.messages()[-1]["kind"], "failed")

    def test_every_ending_has_its_outcome(self):
        class OutOfMemoryError(RuntimeError):
            """As PyTorch's."""

        with self.environment(), rw.Worker():
            pass
        self.assertEqual(self.messages()[-1], {"type": "outcome", "kind": "measured"})
        endings = [
            (ValueError("no\nsecond line"), "failed", "ValueError: no"),
            (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
            (MemoryError(), "out_of_memory", "MemoryError"),
            (OutOfMemoryError("CUDA"), "out_of_memory", "OutOfMemoryError: CUDA"),
        ]
        for error, kind, reason in endings:
            with self.environment(), self.assertRaises(type(error)), rw.Worker():
                raise error
            self.assertEqual(self.messages()[-1], {"type": "outcome", "kind": kind, "reason": reason})
        with self.environment(), rw.Worker():
            raise rw.Skip("no GPU")
        self.assertEqual(self.messages()[-1], {"type": "outcome", "kind": "skipped", "reason": "no GPU"})

    def test_nothing_follows_the_outcome(self):
        with self.environment(), rw.Worker() as worker:
            worker.outcome("failed", "wrong numbers")
            with self.assertRaises(RuntimeError):
                worker.value("load_time", 1)
        self.assertEqual([m["type"] for m in self.messages()], ["hello", "outcome"])

    def test_only_the_first_of_several_processes_speaks(self):
        for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
            with self.environment(), mock.patch.dict(os.environ, {name: "3"}), rw.Worker() as worker:
                self.assertEqual((rw.rank(), worker.speaks), (3, False))
                worker.value("kernels", 12)
                self.assertFalse(worker.check("logits", "f64", error=1, tolerance=0))
            self.assertFalse(os.path.exists(self.output), name)
        # torchrun started by srun: each node's own process is told its rank by torchrun.
        with self.environment(), mock.patch.dict(os.environ, {"RANK": "0", "SLURM_PROCID": "1"}), rw.Worker():
            pass
        self.assertEqual([m["type"] for m in self.messages()], ["hello", "outcome"])

    def test_a_silent_process_fails_as_it_would_aloud(self):
        with self.environment(), mock.patch.dict(os.environ, {"RANK": "1"}):
            with self.assertRaisesRegex(ValueError, "no"), rw.Worker():
                raise ValueError("no")
        self.assertFalse(os.path.exists(self.output))

    def test_an_inherited_rank_can_be_overridden(self):
        with self.environment(), mock.patch.dict(os.environ, {"RANK": "1"}), rw.Worker(speaks=True):
            pass
        self.assertEqual(self.messages()[-1]["kind"], "measured")

    def test_processes_that_agree_run_equally_often(self):
        slow, fast, said = FakeClock(0.02), FakeClock(0.001), []

        def recorded(numbers):
            said.append(numbers)
            return numbers

        with self.environment(), rw.Worker() as worker:
            rw.time_loop(slow.work, worker, clock=slow, cpu_clock=slow, agree=recorded)
        told = iter(said)
        # The fast one hears what the slow one measured and does as many iterations.
        with self.environment(), mock.patch.dict(os.environ, {"RANK": "1"}), rw.Worker() as worker:
            rw.time_loop(fast.work, worker, clock=fast, cpu_clock=fast, agree=lambda numbers: next(told))
        self.assertEqual((fast.calls, next(told, None)), (slow.calls, None))

    def time(self, clock, fn=None, **changes):
        with self.environment(**changes), rw.Worker() as worker:
            rw.time_loop(fn or clock.work, worker, clock=clock, cpu_clock=clock)
        return {m.get("metric", m)["name"] if "metric" in m else m["type"]: m for m in self.messages()}

    def test_the_loop_lengthens_samples_and_stops_when_precise(self):
        said = self.time(FakeClock(0.001))
        self.assertGreaterEqual(said["latency"]["iterations"], 10)
        self.assertEqual(len(said["latency"]["values"]), 12)
        self.assertEqual(said["stop"]["reason"], "precise")
        self.assertTrue(said["warmup"]["settled"])
        for value in said["latency"]["values"] + said["cpu_time"]["values"]:
            self.assertAlmostEqual(value, 0.001)

    def test_noise_is_capped_by_the_number_of_samples(self):
        clock = FakeClock(0.02)

        def noisy():
            clock.work()
            clock.now += 0.02 * (clock.calls % 3)

        said = self.time(clock, noisy)
        self.assertEqual(len(said["latency"]["values"]), 20)
        self.assertEqual(said["stop"]["reason"], "max_samples")

    def test_slow_work_is_capped_by_time_but_not_below_the_least(self):
        clock = FakeClock(0.0)

        def slow():
            clock.calls += 1
            clock.now += 5.0 + clock.calls % 3

        said = self.time(clock, slow)
        self.assertEqual(len(said["latency"]["values"]), 12)
        self.assertEqual(said["stop"]["reason"], "max_time")
        self.assertFalse(said["warmup"]["settled"])

    def test_injected_work_is_really_done(self):
        for share in (0.3, 0.05, 1.0):
            said = self.time(FakeClock(0.02), inject=share)
            self.assertAlmostEqual(said["latency"]["values"][0] / 0.02, 1 + share, delta=0.05)

    def test_synchronize_is_called_around_each_batch(self):
        clock, calls = FakeClock(0.02), []
        with self.environment(), rw.Worker() as worker:
            wall = rw.time_loop(clock.work, worker, lambda: calls.append(1), clock, clock)
        self.assertGreaterEqual(len(calls), 2 * len(wall))

    def test_the_decorator_is_a_whole_worker(self):
        @rw.benchmark
        def work(request):
            numbers = list(range(request.param("n")))
            return lambda: sum(numbers)

        with self.environment():
            work()
        kinds = [m["type"] for m in self.messages()]
        self.assertEqual(kinds, ["hello", "value", "warmup", "samples", "samples", "stop", "outcome"])
        self.assertEqual(self.messages()[1]["metric"]["name"], "load_time")


if __name__ == "__main__":
    unittest.main()
