// What the page shows: the tape, from the JSON inside this file, and the steps in which it is shown.

const $ = (id) => document.getElementById(id);

// A DOM element: element("td", { class: "wide" }, "text", child...). Text stays text, whatever is in it.
function build(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
        if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
        else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) if (child != null && child !== false) node.append(child);
    return node;
}
const element = (name, attributes, ...children) => build(document.createElement(name), attributes, children);
const vector = (name, attributes, ...children) =>
    build(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

const tape = JSON.parse($("tape").textContent);
const nodeAt = new Map(); // by index; those that are only mentioned have no value
for (const node of tape.outside) nodeAt.set(node.index, { ...node, outside: true });
for (const node of tape.nodes) nodeAt.set(node.index, node);

const opOf = (node) => tape.ops[node.op];
const firstOf = (node) => (node.result && !node.outside ? nodeAt.get(node.inputs[0]) || node : node);
const scopeOf = (node) => tape.scopes[node.scope || 0];
const labelOf = (index) => (nodeAt.has(index) ? nodeAt.get(index).label : "v" + index);

// All results of the operation at a node, that one first.
function resultsOf(node) {
    const results = [node];
    for (let k = 1; k < opOf(node).results; k++) {
        const result = nodeAt.get(node.index + k);
        if (result && result.result === k) results.push(result);
    }
    return results;
}

// Who reads a node: only what is shown.
const consumersOf = new Map();
for (const node of tape.nodes) {
    for (const input of new Set(node.inputs)) {
        if (!consumersOf.has(input)) consumersOf.set(input, []);
        consumersOf.get(input).push(node.index);
    }
}

// ---- values -------------------------------------------------------------------------------------------------------

const named = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };
const numberOf = (element) =>
    typeof element === "number" ? element : element in named ? named[element] : Number(element);
const countOf = (value) => value.shape.reduce((product, size) => product * size, 1);
const typeOf = (value) => value.dtype + "[" + value.shape.join(",") + "]";

// a + b, element by element; null where one of them is not known.
function sumOf(a, b) {
    if (!a || !b || !a.elements || !b.elements) return null;
    return {
        dtype: a.dtype,
        shape: a.shape,
        elements: a.elements.map((x, i) => numberOf(x) + numberOf(b.elements[i])),
    };
}

// ---- steps --------------------------------------------------------------------------------------------------------
//
//   forward   an operation computes its results, or a leaf is put on the tape
//   seed      the way back begins
//   back      an operation passes a contribution on to one of its inputs
//   end       every gradient is there

// What a term of a node adds; a term that is alone is the gradient.
function contributionOf(node, term) {
    return term.value || (node.term_count === 1 && !node.seed ? node.gradient : null);
}

function makeSteps() {
    const steps = tape.nodes.filter((node) => !node.result).map((node) => ({ kind: "forward", node }));
    if (tape.pass.nodes === 0) return steps;
    const start = nodeAt.get(tape.pass.start);
    if (start && start.seed) steps.push({ kind: "seed", node: start });
    const back = [];
    for (const node of tape.nodes) {
        (node.terms || []).forEach((term, number) => back.push({ kind: "back", node, term, number }));
    }
    back.sort((a, b) => b.term.consumer - a.term.consumer || a.term.input - b.term.input);
    steps.push(...back, { kind: "end" });
    return steps;
}

const steps = makeSteps();
const backBegins =
    Math.max(
        steps.findIndex((step) => step.kind !== "forward"),
        0,
    ) || steps.length;

// Of each node: the step that computes it, and those that bring its gradient.
const computedAt = new Map();
const gradientAt = new Map();
const flowedAt = new Map(); // "consumer:node"
steps.forEach((step, at) => {
    if (step.kind === "forward") for (const result of resultsOf(step.node)) computedAt.set(result.index, at);
    if (step.kind === "forward" || step.kind === "end") return;
    if (!gradientAt.has(step.node.index)) gradientAt.set(step.node.index, []);
    gradientAt.get(step.node.index).push(at);
    if (step.kind === "back") flowedAt.set(step.term.consumer + ":" + step.node.index, at);
});

// How much of a node's gradient is there after a step: 0 nothing, 1 a part, 2 all.
function gradientState(node, at) {
    const arrivals = gradientAt.get(node.index);
    if (!arrivals || at < arrivals[0]) return at === steps.length - 1 && node.reached ? 2 : 0;
    return at >= arrivals[arrivals.length - 1] ? 2 : 1;
}

// The sum of the first terms of a node; null if they are not known.
function partialSum(node, count) {
    let sum = null;
    for (let i = 0; i < count; i++) {
        const part = contributionOf(node, node.terms[i]);
        sum = i === 0 ? part : sumOf(sum, part);
    }
    return sum;
}

// The gradient of a node as it is after a step.
function gradientAfter(node, at) {
    const state = gradientState(node, at);
    if (state === 0) return null;
    if (state === 2) return node.gradient || null;
    return partialSum(node, gradientAt.get(node.index).filter((arrival) => arrival <= at).length);
}
