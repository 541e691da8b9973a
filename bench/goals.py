"""What adtape set out to reach, as numbers that hold on any machine where they can: times of a peer, shares of the floor."""

import dataclasses

import results as measured


@dataclasses.dataclass
class Goal:
    """One case at one number of threads, and a number that it is to reach; how it is measured depends on the kind."""

    case: str
    aim: float
    threads: int = 1

    def found(self, results):
        """The number that was measured; None if it was not."""
        case = next((c for c in results.cases if (c.name, c.threads) == (self.case, self.threads)), None)
        return self.of(results, case) if case and "adtape" in case.sides else None

    def reached(self, number):
        return number >= self.aim


@dataclasses.dataclass
class Ratio(Goal):
    """So many times as long as we does the C++ library of PyTorch take at least."""

    def of(self, _results, case):
        return case.ratio("libtorch")

    def text(self, number):
        return f"libtorch takes {measured.times(number)}"


@dataclasses.dataclass
class Share(Goal):
    """So much of what the machine could do at most."""

    def of(self, results, case):
        above, _ = results.above_floor(case)
        return 1 / above if above else None

    def text(self, number):
        return f"{100 * number:.0f} % of the floor's speed"


@dataclasses.dataclass
class Gain(Goal):
    """So many times as fast as with one thread."""

    def of(self, results, case):
        one = next((c for c in results.cases if (c.name, c.threads) == (self.case, 1)), None)
        return one.sides["adtape"].median / case.sides["adtape"].median if one else None

    def text(self, number):
        return f"{measured.times(number)} as fast as with 1 thread"


@dataclasses.dataclass
class AtMost(Goal):
    """No more than that, in the unit of the case."""

    unit: str = ""

    def of(self, _results, case):
        self.unit = case.unit
        return case.sides["adtape"].median

    def reached(self, number):
        return number <= self.aim

    def text(self, number):
        return f"{measured.digits(number)} {self.unit}"


GOALS = (
    AtMost("scalar f64 record ops=1e5", 12),
    AtMost("scalar f64 back ops=1e5", 8),
    AtMost("scalar f64 memory ops=1e5", 128),
    AtMost("small ops f32 n=10", 50),
    AtMost("mlp 2-16-16-1 step, batch 1", 2),
    AtMost("mlp 2-16-16-1 step, batch 32", 4),
    Ratio("mlp 784-256-256-10 step, batch 64", 1.45),
    Ratio("gpt step, batch 8", 1.6),
    Ratio("lenet step, batch 64", 2.6),
    Ratio("cnn step, batch 64", 1.9),
    Gain("gpt step, batch 8", 1.7, threads=2),
    Gain("cnn step, batch 64", 1.7, threads=2),
    Share("gemm f32 nn n=8", 0.15),
    Share("gemm f32 nn n=16", 0.42),
    Share("gemm f32 nn n=32", 0.77),
    Share("gemm f32 nn n=64", 0.9),
    Share("gemm f32 nn n=256", 0.9),
    Share("gemm f32 nn n=1024", 0.9),
    Share("gemm f64 nn n=256", 0.9),
    Share("gemm f64 nn n=1024", 0.9),
    Share("gemm f32 nt 64x256x784", 0.95),
    Share("gemm f32 tn 784x256x64", 0.9),
    Share("gemm f32 nn n=1024", 0.9, threads=2),
    Share("gemm f64 nn n=1024", 0.88, threads=2),
    Share("exp f32 n=16Mi: value", 0.9),
    Share("tanh f32 n=16Mi: value", 0.9),
    Share("erf f32 n=16Mi: value", 0.9),
    Share("gelu f32 n=16Mi: value", 0.8),
    Share("softmax f32 n=16Mi: value", 0.8),
    Share("layer_norm f32 n=16Mi: value", 0.8),
    Share("transpose f32 n=16Mi: value", 0.65),
)
