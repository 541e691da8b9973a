// What one step is, in words, formulas and numbers.

// Punctuation stays with the formula in front of it.
function words(...parts) {
    const flat = parts.flat(Infinity).filter((part) => part != null && part !== "");
    const tied = flat.map((part, i) => {
        const next = flat[i + 1],
            last = flat[i - 1];
        if (part.localName === "math" && typeof next === "string" && /^[.,:]/.test(next))
            return element("span", { class: "tied" }, part, next[0]);
        return last && last.localName === "math" && typeof part === "string" && /^[.,:]/.test(part)
            ? part.slice(1)
            : part;
    });
    return element("p", { class: "words" }, ...tied);
}
const listed = (parts) =>
    parts.flatMap((part, i) => (i === 0 ? [part] : [i === parts.length - 1 ? " and " : ", ", part]));
const small = (title, ...children) => element("section", { class: "part" }, element("h3", null, title), ...children);
const row = (...cards) => element("div", { class: "equation" }, ...cards);
const sign = (text) => element("span", { class: "sign", "aria-hidden": "true" }, text);

// "add (v4)"
const byOperation = (node) => [element("b", null, opOf(firstOf(node)).name), " at ", plainMath(firstOf(node).index)];

function valueCard(index, role, note) {
    const node = nodeAt.get(index);
    if (!node || node.outside)
        return element(
            "figure",
            { class: "card " + role },
            element("figcaption", null, plainMath(index)),
            element("p", { class: "none" }, "not in this dump"),
        );
    return card(role, plainMath(index), node.value, note, node.label);
}

// Inputs that are one node are shown once.
const distinctInputs = (node) => [...new Set(node.inputs)];
const shownInputs = 6;

function inputCards(node, roleOf) {
    const inputs = distinctInputs(node),
        cards = inputs.slice(0, shownInputs).map((index) => valueCard(index, roleOf(index)));
    if (inputs.length > shownInputs) cards.push(sign("and " + (inputs.length - shownInputs) + " more"));
    return cards;
}

// ---- what is saved ------------------------------------------------------------------------------------------------

function savedReason(node, saved) {
    const readers = [...new Set(saved.for.filter((i) => i < node.inputs.length).map((i) => node.inputs[i]))];
    if (readers.length === 0) return ["its VJP reads it"];
    return ["to compute ", ...listed(readers.slice(0, 4).map(barMath)), readers.length > 4 ? " and more" : ""];
}

function savedPart(node) {
    if (!node.saved) return null;
    const items = node.saved.map((saved) =>
        element("li", null, plainMath(saved.node), " (", byteText(saved.bytes), ") ", ...savedReason(node, saved)),
    );
    return small("Saved for the way back", element("ul", { class: "saved-list" }, ...items));
}

// ---- Jacobians ----------------------------------------------------------------------------------------------------

const jacobianOf = (result, input) => (result.jacobians || []).find((jacobian) => jacobian.input === input);

function jacobianPart(node) {
    const cards = resultsOf(node).flatMap((result) =>
        (result.jacobians || []).map((jacobian) =>
            card(
                "jacobian",
                jacobianMath(result.index, node.inputs[jacobian.input]),
                jacobian.value,
                null,
                "local Jacobian",
            ),
        ),
    );
    if (cards.length === 0) return null;
    return small(
        cards.length > 1 ? "Local Jacobians" : "Local Jacobian",
        row(...cards),
        element(
            "p",
            { class: "aside" },
            "One row for each element of the result, one column for each of the input; other inputs are held fixed.",
        ),
    );
}

function transposed(value) {
    const [rows, columns] = value.shape;
    return {
        dtype: value.dtype,
        shape: [columns, rows],
        elements: value.elements.map((_, i) => value.elements[(i % rows) * columns + Math.floor(i / rows)]),
    };
}
const flattened = (value) => value && { ...value, shape: [countOf(value)] };

// The contribution as a product: the transposed Jacobian times the gradient that arrives, over all results.
function productPart(node, input, contribution) {
    const terms = resultsOf(node).filter((result) => result.reached && jacobianOf(result, input) && result.gradient);
    if (terms.length === 0 || !contribution) return null;
    const cards = terms.flatMap((result, i) => [
        i > 0 ? sign("+") : null,
        card(
            "jacobian",
            jacobianMath(result.index, node.inputs[input], true),
            transposed(jacobianOf(result, input).value),
            null,
            "local Jacobian, transposed",
        ),
        card("gradient", barMath(result.index), flattened(result.gradient), null, "gradient of " + result.label),
    ]);
    return small(
        "The same by the local Jacobian",
        row(
            ...cards,
            sign("="),
            card("gradient contribution", barMath(node.inputs[input]), flattened(contribution), null, "contribution"),
        ),
        element(
            "p",
            { class: "aside" },
            "The VJP computes the transposed Jacobian times the gradient that arrives, and never makes the matrix.",
        ),
    );
}

// ---- forward ------------------------------------------------------------------------------------------------------

const leafWords = {
    input: "An input: no operation made it, and it gets a gradient.",
    parameter: "A parameter: it lives outside the tape, and an optimiser changes it after the way back.",
    constant: "A constant: nothing flows back to it.",
};

function showLeaf(node) {
    return [
        words(leafWords[kindOf(node)], node.changed ? " It was changed since it was put on the tape." : ""),
        row(valueCard(node.index, "result")),
    ];
}

function showOperation(node) {
    const savedNodes = new Set((node.saved || []).map((saved) => saved.node));
    const results = resultsOf(node);
    return [
        words(
            element("b", null, opOf(node).name),
            " computes ",
            ...listed(results.map((result) => plainMath(result.index))),
            " from ",
            ...listed(distinctInputs(node).slice(0, shownInputs).map(plainMath)),
            node.view ? ", as another view of the same memory" : "",
            ".",
        ),
        row(
            ...inputCards(node, (index) => (savedNodes.has(index) ? "saved" : "read")),
            sign("→"),
            ...results.map((result) =>
                valueCard(result.index, savedNodes.has(result.index) ? "result saved" : "result"),
            ),
        ),
        savedPart(node),
        jacobianPart(node),
        opOf(node).convention
            ? element("p", { class: "aside" }, "Where there is no derivative: ", conventionText(node))
            : null,
    ];
}

// Conventions are texts with references.
function conventionText(node) {
    const parts = opOf(node).convention.split(/([$~](?:y[0-9]?|[0-9]+))/);
    return parts.map((part) => {
        if (!/^[$~]/.test(part)) return part;
        const index = part[1] === "y" ? node.index + Number(part.slice(2) || 0) : node.inputs[Number(part.slice(1))];
        return index === undefined ? part : part[0] === "~" ? barMath(index) : plainMath(index);
    });
}

// ---- backward -----------------------------------------------------------------------------------------------------

function showSeed(node) {
    return [
        words(
            "The way back begins: the gradient of ",
            plainMath(node.index),
            " with respect to itself is the seed. What follows are derivatives of ",
            plainMath(node.index),
            ", each found from those below it.",
        ),
        row(card("gradient", barMath(node.index), node.gradient, "seed", "gradient of " + node.label)),
    ];
}

// What the VJP reads for one input: of the saved values, those that its formula mentions.
function readFor(consumer, input) {
    const reads = (saved) => saved.for.includes(Math.min(input, 63)) || saved.for.length === 0;
    return (consumer.saved || []).filter(reads).map((saved) => saved.node);
}

function arrivingCards(consumer) {
    return resultsOf(consumer)
        .filter((result) => result.reached)
        .map((result) =>
            card("gradient", barMath(result.index), result.gradient, "arrives", "gradient of " + result.label),
        );
}

function mergePart(step) {
    const { node, number } = step,
        count = node.term_count,
        value = contributionOf(node, node.terms[number]);
    if (count === 1) return null;
    const before = partialSum(node, number),
        isLast = number === count - 1;
    const after = isLast ? node.gradient : partialSum(node, number + 1);
    const peers = [before, value, after].flatMap((part) => (part && part.elements) || []);
    const from = (term) => ["from ", plainMath(term.consumer)];
    const cards =
        number === 0
            ? [
                  card("gradient part", barMath(node.index), value, "the first of " + count, "gradient so far", {
                      peers,
                  }),
              ]
            : [
                  card(
                      "gradient part",
                      barMath(node.index),
                      before,
                      number === 1 ? element("span", null, ...from(node.terms[0])) : "sum of " + number,
                      "gradient so far",
                      { peers },
                  ),
                  sign("+"),
                  card(
                      "gradient contribution",
                      "this one",
                      value,
                      element("span", null, ...from(step.term)),
                      "contribution",
                      { peers },
                  ),
                  sign("="),
                  card(
                      "gradient merged",
                      barMath(node.index),
                      after,
                      isLast ? "all " + count : number + 1 + " of " + count,
                      "gradient",
                      { peers },
                  ),
              ];
    return element(
        "section",
        { class: "part merge-part" },
        element("h3", null, "Gradients merge at ", plainMath(node.index)),
        words(
            plainMath(node.index),
            " was used " + count + " times, so its gradient is a sum of " + count + " contributions.",
            count > node.terms.length ? " Only the first " + node.terms.length + " are in this dump." : "",
        ),
        row(...cards),
    );
}

function showBack(step) {
    const { node, term } = step,
        consumer = nodeAt.get(term.consumer);
    if (!consumer || consumer.outside)
        return [
            words("An operation that is not in this dump, ", plainMath(term.consumer), ", passes a contribution on."),
        ];
    const value = contributionOf(node, term),
        reads = readFor(consumer, term.input);
    return [
        words(
            "The gradient of ",
            ...listed(
                resultsOf(consumer)
                    .filter((result) => result.reached)
                    .map((result) => plainMath(result.index)),
            ),
            " has arrived. The VJP of ",
            element("b", null, opOf(consumer).name),
            " passes a contribution on to ",
            plainMath(node.index),
            reads.length ? [", for which it reads what was saved: ", ...listed(reads.map(plainMath))] : "",
            ".",
        ),
        row(
            ...arrivingCards(consumer),
            ...reads.slice(0, shownInputs).map((index) => valueCard(index, "saved", "saved")),
            sign("→"),
            card(
                "gradient contribution",
                barMath(node.index),
                value,
                node.term_count > 1 ? "+=" : "=",
                "contribution to the gradient of " + node.label,
            ),
        ),
        mergePart(step),
        productPart(consumer, term.input, value),
        opOf(consumer).convention
            ? element("p", { class: "aside" }, "Where there is no derivative: ", conventionText(consumer))
            : null,
    ];
}

const shownLeaves = 12;

function showEnd() {
    const leaves = tape.nodes.filter((node) => node.leaf && node.gradient);
    return [
        words(
            "Every gradient is there: the derivatives of ",
            plainMath(tape.pass.start),
            " with respect to ",
            ...listed(leaves.slice(0, shownLeaves).map((node) => plainMath(node.index))),
            leaves.length > shownLeaves ? " and " + (leaves.length - shownLeaves) + " more" : "",
            tape.pass.selective ? ". Only some were asked for." : ".",
        ),
        row(
            ...leaves
                .slice(0, shownLeaves)
                .map((node) =>
                    card(
                        "gradient",
                        barMath(node.index),
                        node.gradient,
                        node.incomplete ? "incomplete" : kindOf(node),
                        "gradient of " + node.label,
                    ),
                ),
        ),
    ];
}

// ---- the stage ----------------------------------------------------------------------------------------------------

function headline(step) {
    if (step.kind === "forward") return resultsOf(step.node).map((result) => valueMath(result, true));
    if (step.kind === "seed") return [barMath(step.node.index)];
    if (step.kind === "end") return [];
    const consumer = nodeAt.get(step.term.consumer);
    const math = consumer && !consumer.outside ? adjointMath(consumer, step.term.input, true) : null;
    return [math || barMath(step.node.index)];
}

const phaseOf = (step) => (step.kind === "forward" ? "forward" : "backward");
const titles = { seed: "The seed", end: "Done" };

function titleOf(step) {
    if (step.kind in titles) return titles[step.kind];
    const node = step.kind === "forward" ? step.node : nodeAt.get(step.term.consumer) || step.node;
    if (step.kind === "forward") return node.leaf ? kindOf(node) : opOf(node).name;
    return "VJP of " + (node.outside ? node.label : opOf(node).name);
}

function placeOf(step) {
    const node = step.kind === "end" ? null : step.kind === "back" ? nodeAt.get(step.term.consumer) : step.node;
    if (!node || node.outside) return null;
    const path = scopeOf(node).path;
    return element(
        "p",
        { class: "place" },
        [path, node.where && node.where.split("/").pop()].filter(Boolean).join("  ·  "),
    );
}

const shows = { seed: (step) => showSeed(step.node), back: showBack, end: showEnd };

function drawStage(at) {
    const step = steps[at];
    repaints = [];
    if (!step) {
        $("stage").replaceChildren(element("p", { class: "words" }, "There is nothing on this tape."));
        return;
    }
    const body =
        step.kind === "forward"
            ? step.node.leaf
                ? showLeaf(step.node)
                : showOperation(step.node)
            : shows[step.kind](step);
    $("stage").className = phaseOf(step);
    $("tape-panel").className = phaseOf(step) + "-step";
    $("stage").replaceChildren(
        element(
            "div",
            { class: "eyebrow" },
            element("span", { class: "phase" }, phaseOf(step)),
            element("h2", null, titleOf(step)),
            placeOf(step),
        ),
        element("div", { class: "headline" }, ...headline(step)),
        ...(step.kind === "end" ? [] : differencePart(step)),
        ...body.filter(Boolean),
    );
    $("stage").scrollTop = 0;
    repaint();
}

// What changes in the picture of the tape: nodes that the step is about, and values that flow.
function focusOf(step) {
    const marks = new Map(),
        flows = [];
    if (!step || step.kind === "end") return { marks, flows, index: null };
    if (step.kind === "forward") {
        for (const input of step.node.inputs) {
            marks.set(input, "reads");
            flows.push({ from: input, to: step.node.index, kind: "ahead" });
        }
        for (const result of resultsOf(step.node)) marks.set(result.index, "now");
    } else {
        marks.set(step.node.index, "gets");
        if (step.kind === "back") {
            const consumer = nodeAt.get(step.term.consumer);
            if (consumer && !consumer.outside)
                for (const index of readFor(consumer, step.term.input)) marks.set(index, "reads");
            marks.set(step.node.index, "gets");
            marks.set(step.term.consumer, "gives");
            flows.push({ from: step.term.consumer, to: step.node.index, kind: "back" });
        }
    }
    return { marks, flows, index: step.node.index };
}

// The step in a sentence, for those who listen.
function spoken(at) {
    const step = steps[at],
        number = "Step " + (at + 1) + " of " + steps.length + ". ";
    if (!step) return "There is nothing on this tape.";
    if (step.kind === "forward") {
        const node = step.node,
            from = node.leaf ? "" : " from " + distinctInputs(node).slice(0, shownInputs).map(labelOf).join(" and ");
        return (
            number +
            "Forward. " +
            (node.leaf ? kindOf(node) : opOf(node).name) +
            " gives " +
            node.label +
            from +
            ": " +
            shortText(node.value) +
            "."
        );
    }
    if (step.kind === "seed") return number + "Backward begins at " + step.node.label + ".";
    if (step.kind === "end") return number + "Every gradient is there.";
    const value = contributionOf(step.node, step.term),
        count = step.node.term_count;
    return (
        number +
        "Backward. " +
        labelOf(step.term.consumer) +
        " passes " +
        (shortText(value) || "a contribution") +
        " on to the gradient of " +
        step.node.label +
        (count > 1 ? ", contribution " + (step.number + 1) + " of " + count : "") +
        "."
    );
}
