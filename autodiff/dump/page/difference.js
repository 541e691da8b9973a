// Two tapes beside each other. The page shows the second; the first is compared with it, node by node.

const other = $("other") ? JSON.parse($("other").textContent) : null;
const difference = $("difference") ? JSON.parse($("difference").textContent) : null;
const otherAt = new Map(other ? other.nodes.map((node) => [node.index, node]) : []);
const differs = new Map(); // index -> { partner, ... } where there is something to show
const goneBefore = new Map(); // index of a node, or the end -> nodes that only the first tape has, in front of it

// What the dump says of each pair: [first, second, value differs, gradient differs, other inputs], -1 for none.
function readDifference() {
    let gone = [];
    for (const [first, second, value, gradient, inputs] of difference.pairs) {
        if (second < 0) {
            gone.push(otherAt.get(first));
            continue;
        }
        if (gone.length) goneBefore.set(second, gone);
        gone = [];
        if (first < 0 || value || gradient || inputs)
            differs.set(second, { partner: otherAt.get(first), value, gradient, inputs });
    }
    if (gone.length) goneBefore.set("end", gone.concat(goneBefore.get("end") || []));
}
if (difference) readDifference();

const differenceOf = (index) => differs.get(index);

// Whether two elements differ by more than the dump was asked to pass over.
function elementsDiffer(a, b) {
    const x = numberOf(a),
        y = numberOf(b);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) !== Number.isNaN(y);
    if (a === b || x === y) return typeof a === "string" && a !== b;
    return !(Math.abs(x - y) <= difference.absolute + difference.relative * Math.max(Math.abs(x), Math.abs(y)));
}

// marked(i) for the cards of two values.
function marker(a, b) {
    const alike = a && b && a.elements && b.elements && String(a.shape) === String(b.shape);
    return alike ? (i) => elementsDiffer(a.elements[i], b.elements[i]) : undefined;
}

function largestDifference(a, b) {
    if (!marker(a, b)) return null;
    const gaps = a.elements.map((x, i) => Math.abs(numberOf(x) - numberOf(b.elements[i]))).filter((gap) => gap > 0);
    return gaps.length ? "by at most " + numberText(Math.max(...gaps)) : null;
}

// The same value on both tapes.
function pairOfCards(title, a, b, role, name) {
    const marked = marker(a, b),
        peers = [a, b].flatMap((value) => (value && value.elements) || []);
    return [
        card(role, title(), a, difference.names[0], name + ", " + difference.names[0], { marked, peers }),
        sign("≠"),
        card(role, title(), b, difference.names[1], name + ", " + difference.names[1], { marked, peers }),
    ];
}

function differencePart(step) {
    const found = differenceOf(step.node.index),
        node = step.node;
    if (!found) return [];
    if (!found.partner)
        return [small("Compared", words("Only ", element("b", null, difference.names[1]), " has this node."))];
    const cards = [];
    if (found.value)
        cards.push(
            words(plainMath(node.index), " differs ", largestDifference(found.partner.value, node.value), "."),
            row(...pairOfCards(() => plainMath(node.index), found.partner.value, node.value, "read", node.label)),
        );
    if (found.gradient)
        cards.push(
            words(
                "The gradient of ",
                plainMath(node.index),
                " differs ",
                largestDifference(found.partner.gradient, node.gradient),
                ".",
            ),
            row(
                ...pairOfCards(
                    () => barMath(node.index),
                    found.partner.gradient,
                    node.gradient,
                    "gradient",
                    "gradient of " + node.label,
                ),
            ),
        );
    if (found.inputs)
        cards.push(
            words(
                "It has other inputs: " +
                    found.partner.inputs.join(", ") +
                    " there, " +
                    node.inputs.join(", ") +
                    " here.",
            ),
        );
    return [
        element(
            "section",
            { class: "part difference-part" },
            element("h3", null, "Compared with " + difference.names[0]),
            ...cards,
        ),
    ];
}

const differenceSummary = () =>
    countText(differs.size, "node") + (differs.size === 1 ? " differs" : " differ") + " from " + difference.names[0];
