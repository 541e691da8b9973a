#!/usr/bin/env python3
"""Makes optim.h: what PyTorch's optimisers do to five weights in six steps.

    python3 tests/reference/optim.py > tests/reference/optim.h

The gradients are fixed fractions that are exact in f32, and the rate is halved after the third step, so that nothing
but the optimiser's own arithmetic is compared. Needs PyTorch.
"""

import torch

STEPS, WEIGHTS, HALVED_AFTER = 6, 5, 3

SGD = ("rate", "momentum", "decay", "nesterov")
ADAM = ("rate", "beta1", "beta2", "epsilon", "decay")
CASES = [
    ("sgd", SGD, (0.1, 0, 0, False)),
    ("sgd", SGD, (0.1, 0, 0.05, False)),
    ("sgd", SGD, (0.1, 0.9, 0, False)),
    ("sgd", SGD, (0.1, 0.9, 0.05, False)),
    ("sgd", SGD, (0.1, 0.9, 0, True)),
    ("sgd", SGD, (0.1, 0.5, 0.05, True)),
    ("adam", ADAM, (0.001, 0.9, 0.999, 1e-8, 0)),
    ("adam", ADAM, (0.1, 0.5, 0.75, 1e-3, 0.05)),
    ("adam", ADAM, (0.1, 0.0, 0.9, 1e-8, 0.0)),
    ("adamw", ADAM, (0.001, 0.9, 0.999, 1e-8, 0.01)),
    ("adamw", ADAM, (0.1, 0.5, 0.75, 1e-3, 0.25)),
]


def make(kind, values, w):
    if kind == "sgd":
        rate, momentum, decay, nesterov = values
        return torch.optim.SGD([w], lr=rate, momentum=momentum, weight_decay=decay, nesterov=nesterov)
    rate, beta1, beta2, epsilon, decay = values
    cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
    return cls([w], lr=rate, betas=(beta1, beta2), eps=epsilon, weight_decay=decay)


def run(kind, values, dtype):
    w = torch.tensor([(i - 2) / 2 for i in range(WEIGHTS)], dtype=dtype)
    optim = make(kind, values, w)
    for step in range(STEPS):
        w.grad = torch.tensor([((step * 7 + i * 3) % 11 - 5) / 4 for i in range(WEIGHTS)], dtype=dtype)
        optim.step()
        yield w.tolist()
        if step + 1 == HALVED_AFTER:
            optim.param_groups[0]["lr"] /= 2


def c_number(x):
    return str(x).lower() if isinstance(x, bool) else repr(x)


def main():
    print(f"/* Made by optim.py with PyTorch {torch.__version__.split('+')[0]}: do not edit. */")
    print(f"enum {{ REF_STEPS = {STEPS}, REF_WEIGHTS = {WEIGHTS}, REF_HALVED_AFTER = {HALVED_AFTER} }};")
    print("static const struct {")
    print("    const char *kind;")
    print("    ad_sgd_options sgd;")
    print("    ad_adam_options adam;")
    print("    double w[2][REF_STEPS][REF_WEIGHTS]; /* f32 and f64, after each step */")
    print("} ref_optim[] = {")
    for kind, names, values in CASES:
        options = ", ".join(f".{name} = {c_number(value)}" for name, value in zip(names, values))
        print(f'    {{"{kind}",')
        print(f"     .{'sgd' if kind == 'sgd' else 'adam'} = {{{options}}},")
        print("     .w = {")
        for dtype in (torch.float32, torch.float64):
            rows = [", ".join(f"{x:.{9 if dtype == torch.float32 else 17}g}" for x in row)
                    for row in run(kind, values, dtype)]
            print("         {" + ",\n          ".join("{" + row + "}" for row in rows) + "},")
        print("     }},")
    print("};")


if __name__ == "__main__":
    main()
