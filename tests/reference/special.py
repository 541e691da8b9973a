#!/usr/bin/env python3
"""Writes special.txt beside it: functions of one number and their derivatives to 21 digits, by mpmath, over all of their
domain. test_accuracy.c reads it. Run it when a function is added:

    python3 tests/reference/special.py

"FUNCTION [CONSTANT or side]" begins a function; "x value derivative" follow, x as a hexadecimal double; "-" is left out.
"""

import pathlib
import random
import re

import mpmath
from mpmath import mpf

mpmath.mp.dps = 60
HERE = pathlib.Path(__file__).parent
f32 = mpmath.workprec(24)


# ---- where -------------------------------------------------------------------------------------------------------------


def points(*parts):
    return sorted({x for part in parts for x in part})


def rounded(x):
    """To f32 for every other one."""
    if random.random() < 0.5:
        return float(x)
    with f32:
        return float(+mpf(x))


def even(low, high, count=16):
    """Spread evenly."""
    return [rounded(random.uniform(low, high)) for _ in range(count)]


def binades(low, high, count=16, sign=1):
    """Spread evenly over the exponents."""
    return [sign * rounded(2.0 ** random.uniform(low, high)) for _ in range(count)]


def around(point, *, left=True, right=True, low=-50, high=-2, count=6):
    """Ever nearer to a point."""
    sides = [-1] * left + [1] * right
    near = [rounded(point + side * d) for side in sides for d in binades(low, high, count)]
    return [x for x in near if x != point]


def away(xs, point, gap=0.25):
    """From where the derivative passes 0."""
    return [x for x in xs if abs(x - point) > gap]


def tiny_and_huge(huge=1000):
    return points(*[binades(-120, -4, 6, s) + binades(2, 120, 4, s) + binades(130, huge, 2, s) for s in (1, -1)],
                  binades(-1000, -130, 2))


def spread(low, high, count=24):
    return points(even(low, high, count), binades(-120, -4, 6), binades(-120, -4, 6, -1), binades(-1000, -130, 2))


# ---- what --------------------------------------------------------------------------------------------------------------

pi, one = mpmath.pi, mpf(1)


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x)) if x > 0 else mpmath.exp(x) / (1 + mpmath.exp(x))


def softplus(x):
    return (x if x > 0 else 0) + mpmath.log1p(mpmath.exp(-abs(x)))


def normal_cdf(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def normal_density(x):
    return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * pi)


def gelu_u(x):
    return 2 * mpmath.sqrt(2 / pi) * (x + mpf("0.044715") * x ** 3)


def gelu_u_slope(x):
    return 2 * mpmath.sqrt(2 / pi) * (1 + 3 * mpf("0.044715") * x ** 2)


def tanh_slope(x):
    return mpmath.sech(x) ** 2


def sinc_slope(x):
    if abs(x) > mpf(2) ** -30:
        return (mpmath.cospi(x) - mpmath.sincpi(x)) / x
    return -pi ** 2 * x / 3 + pi ** 4 * x ** 3 / 30


def erfinv(x):
    """mpmath's is slow to begin next to 1."""
    side = mpmath.sign(x)
    rest = 1 - abs(x)
    if rest > 0.1:
        return mpmath.erfinv(x)
    guess = mpmath.sqrt(-mpmath.log(rest * mpmath.sqrt(pi * -mpmath.log(rest))))
    return side * mpmath.findroot(lambda z: mpmath.log(mpmath.erfc(z) / rest), guess)


def selu_of(scale, alpha):
    scale, alpha = mpf(scale), mpf(alpha)
    return lambda x: scale * x if x >= 0 else scale * alpha * mpmath.expm1(x), \
        lambda x: scale if x >= 0 else scale * alpha * mpmath.exp(x)


exp, log, sqrt, log1p = mpmath.exp, mpmath.log, mpmath.sqrt, mpmath.log1p
psi = mpmath.psi
positive = lambda: points(even(0, 4), binades(-120, 120, 24), binades(-1000, 1000, 8), around(1))
gated = lambda: points(spread(-12, 12), even(-87, 110), even(-708, 760))
gamma_like = lambda: points(even(0, 4, 40), even(0, 20, 40), binades(-120, 100, 30), binades(-300, 300, 6))
left_of_0 = lambda: points(even(-4, 0, 40), even(-30, 0, 20), *[around(-n, low=-20, high=-4, count=3) for n in (0, 1, 2, 7)])
selu, selu_slope = selu_of("1.0507009873554804934193349852946", "1.6732632423543772848170429916717")

#   name: function, derivative, points
FUNCTIONS = {
    "sqrt": (sqrt, lambda x: 1 / (2 * sqrt(x)), positive),
    "rsqrt": (lambda x: 1 / sqrt(x), lambda x: -x ** (mpf(-3) / 2) / 2, lambda: points(even(0, 4), binades(-120, 120, 24))),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), lambda x: 1 / (3 * mpmath.cbrt(x * x)),
             lambda: points(spread(-9, 9), binades(-120, 120, 24))),
    "exp": (exp, exp, lambda: points(spread(-20, 20), even(-103, 89), even(-745, 710))),
    "exp2": (lambda x: 2 ** x, lambda x: log(2) * 2 ** x, lambda: points(spread(-20, 20), even(-149, 128), even(-1074, 1024))),
    "expm1": (mpmath.expm1, exp, lambda: points(spread(-20, 20), even(-103, 89), even(-745, 710))),
    "log": (log, lambda x: 1 / x, positive),
    "log2": (lambda x: mpmath.log1p(x - 1) / log(2) if abs(x - 1) < 0.1 else log(x) / log(2), lambda x: 1 / (x * log(2)), positive),
    "log10": (lambda x: mpmath.log1p(x - 1) / log(10) if abs(x - 1) < 0.1 else log(x) / log(10), lambda x: 1 / (x * log(10)), positive),
    "log1p": (log1p, lambda x: 1 / (1 + x), lambda: points(spread(-1, 3), around(-1, left=False), binades(-120, 120))),
    "logit": (lambda x: log(x) - log1p(-x), lambda x: 1 / (x * (1 - x)),
              lambda: points(even(0, 1), around(0.5), around(1, right=False), binades(-120, -2), binades(-1000, -100, 4))),
    "sin": (mpmath.sin, mpmath.cos, lambda: points(spread(-7, 7), even(-1000, 1000), tiny_and_huge())),
    "cos": (mpmath.cos, lambda x: -mpmath.sin(x), lambda: points(spread(-7, 7), even(-1000, 1000), tiny_and_huge())),
    "tan": (mpmath.tan, lambda x: mpmath.sec(x) ** 2, lambda: points(spread(-7, 7), tiny_and_huge())),
    "asin": (mpmath.asin, lambda x: 1 / sqrt((1 - x) * (1 + x)), lambda: points(spread(-1, 1), around(1, right=False))),
    "acos": (mpmath.acos, lambda x: -1 / sqrt((1 - x) * (1 + x)), lambda: points(spread(-1, 1), around(1, right=False))),
    "atan": (mpmath.atan, lambda x: 1 / (1 + x * x), lambda: points(spread(-3, 3), tiny_and_huge(500))),
    "sinc": (mpmath.sincpi, sinc_slope, lambda: points(spread(-1, 1), even(-30, 30), around(1), around(2), binades(4, 40))),
    "sinh": (mpmath.sinh, mpmath.cosh, lambda: points(spread(-3, 3), even(-89, 89), even(-710, 710))),
    "cosh": (mpmath.cosh, mpmath.sinh, lambda: points(spread(-3, 3), even(-89, 89), even(-710, 710))),
    "tanh": (mpmath.tanh, tanh_slope, lambda: points(spread(-3, 3), even(-22, 22), tiny_and_huge())),
    "asinh": (mpmath.asinh, lambda x: 1 / sqrt(x * x + 1), lambda: points(spread(-3, 3), tiny_and_huge())),
    "acosh": (lambda x: log1p((x - 1) + sqrt((x - 1) * (x + 1))), lambda x: 1 / sqrt((x - 1) * (x + 1)),
              lambda: points(even(1, 5), around(1, left=False), binades(1, 120), binades(120, 1000, 4))),
    "atanh": (lambda x: (log1p(x) - log1p(-x)) / 2, lambda x: 1 / ((1 - x) * (1 + x)),
              lambda: points(spread(-1, 1), around(1, right=False))),
    "erf": (mpmath.erf, lambda x: 2 / sqrt(pi) * exp(-x * x), lambda: points(spread(-3, 3, 80), even(-7, 7, 40), around(1), even(-28, 28))),
    "erfc": (mpmath.erfc, lambda x: -2 / sqrt(pi) * exp(-x * x), lambda: points(spread(-3, 3, 80), even(-7, 28, 80), around(0.5))),
    "erfinv": (erfinv, lambda x: sqrt(pi) / 2 * exp(erfinv(x) ** 2), lambda: points(spread(-1, 1, 80), around(1, right=False, count=40),
                                                                                    around(-1, left=False, count=20), around(0.5))),
    "lgamma": (mpmath.loggamma, lambda x: psi(0, x), lambda: points(gamma_like(), around(1), around(2))),
    "lgamma left": (mpmath.loggamma, lambda x: psi(0, x), left_of_0),
    "digamma left": (lambda x: psi(0, x), lambda x: psi(1, x), left_of_0),
    "digamma": (lambda x: psi(0, x), lambda x: psi(1, x), lambda: points(gamma_like(), around(1.4616321449683622, low=-40))),
    "trigamma": (lambda x: psi(1, x), lambda x: psi(2, x), gamma_like),
    "trigamma left": (lambda x: psi(1, x), None, left_of_0),
    "polygamma 2": (lambda x: psi(2, x), lambda x: psi(3, x), gamma_like),
    "polygamma 3": (lambda x: psi(3, x), lambda x: psi(4, x), gamma_like),
    "polygamma 3 left": (lambda x: psi(3, x), None, left_of_0),
    "polygamma 8": (lambda x: psi(8, x), lambda x: psi(9, x), lambda: points(even(0, 40, 60), binades(-12, 30))),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x), gated),
    "logsigmoid": (lambda x: -softplus(-x), lambda x: sigmoid(-x), gated),
    "softplus": (softplus, sigmoid, gated),
    "gelu": (lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_density(x), 
             lambda: away(points(spread(-6, 6, 80), even(-40, 40, 60)), -0.75)),
    "gelu_tanh": (lambda x: x * sigmoid(gelu_u(x)),
                  lambda x: sigmoid(gelu_u(x)) * (1 + x * gelu_u_slope(x) * sigmoid(-gelu_u(x))), lambda: away(spread(-6, 6, 40), -0.75)),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x)), lambda: away(gated(), -1.28)),
    "mish": (lambda x: x * mpmath.tanh(softplus(x)),
             lambda x: mpmath.tanh(softplus(x)) + x * sigmoid(x) * tanh_slope(softplus(x)),
             lambda: away(gated(), -1.19)),
    "softsign": (lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2, lambda: points(spread(-3, 3), tiny_and_huge(500))),
    "selu": (selu, selu_slope, lambda: points(spread(-9, 9), even(-110, 20), even(-760, 20))),
    "elu 0.375": (lambda x: x if x >= 0 else mpf("0.375") * mpmath.expm1(x), lambda x: one if x >= 0 else mpf("0.375") * exp(x),
                  lambda: points(spread(-9, 9), even(-110, 20), even(-760, 20))),
    "celu 1.5": (lambda x: x if x >= 0 else mpf("1.5") * mpmath.expm1(x / mpf("1.5")), lambda x: one if x >= 0 else exp(x / mpf("1.5")),
                 lambda: points(spread(-9, 9), even(-110, 20), even(-760, 20))),
    "power 2.5": (lambda x: x ** mpf("2.5"), lambda x: mpf("2.5") * x ** mpf("1.5"), lambda: points(even(0, 4), binades(-50, 50))),
    "power -3": (lambda x: x ** -3, lambda x: -3 * x ** -4, lambda: points(even(-4, 4, 30), binades(-30, 30))),
}


def verify(name, function, derivative, xs):
    """The derivative that is written down is that of the function."""
    for x in xs:
        step = mpf(10) ** -12 * max(abs(x), mpf(2) ** -20)
        difference = (function(x + step) - function(x - step)) / (2 * step)
        assert abs(difference - derivative(x)) < mpf(10) ** -8 * (abs(difference) + abs(function(x)) + 1), (name, x)


def lines():
    for name, (function, derivative, where) in FUNCTIONS.items():
        random.seed(name)
        xs = [mpf(x) for x in where()]
        if derivative:
            verify(name, function, derivative, [x for x in xs if 0.01 < abs(x) < 0.99])
        yield name
        for x in xs:
            digits = (mpmath.nstr(mpmath.re(f(x)), 21) if f else "-" for f in (function, derivative))
            yield " ".join([re.sub(r"\.?0*p", "p", float(x).hex()), *digits])


if __name__ == "__main__":
    about = f"# Functions and their derivatives by mpmath {mpmath.__version__} (special.py).\n"
    (HERE / "special.txt").write_text(about + "".join(f"{line}\n" for line in lines()))
