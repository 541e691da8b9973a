// The tape as a list, with an arc for each value that flows from one node to another. Only the rows in sight are in the
// document, so that a long tape costs no more than a short one.

let rowHeight = 34; // higher if few rows leave room
let gutter = 84; // the width of the arcs, as the style says
const closedScopes = new Set();
// Of the list: { scope } begins a scope, { gap } stands for nodes left out, { only } is on another tape, and { node }.
let rows = [];
let rowOf = new Map(); // node index -> number of its row, or of that of the closed scope it is in
let activeRow = 0;

// ---- rows ---------------------------------------------------------------------------------------------------------

function chainOf(scope) {
    const chain = [];
    for (; scope > 0; scope = tape.scopes[scope].parent) chain.unshift(scope);
    return chain;
}

function layOut() {
    rows = [];
    rowOf = new Map();
    const begun = new Set(),
        putGone = (before) => (goneBefore.get(before) || []).forEach((only) => rows.push({ only, depth: 0 }));
    let closedBy = null,
        closedRow = 0,
        expected = tape.ranges[0][0];
    for (const node of tape.nodes) {
        if (node.index > expected) rows.push({ gap: node.index - expected, depth: 0 });
        expected = node.index + 1;
        putGone(node.index);
        const chain = chainOf(node.scope || 0);
        if (closedBy !== null && !chain.includes(closedBy)) closedBy = null;
        for (let level = 0; level < chain.length && closedBy === null; level++) {
            if (!begun.has(chain[level])) {
                begun.add(chain[level]);
                rows.push({ scope: chain[level], depth: level });
            }
            if (closedScopes.has(chain[level])) {
                closedBy = chain[level];
                closedRow = rows.findLastIndex((row) => row.scope === closedBy);
            }
        }
        if (closedBy !== null) {
            rowOf.set(node.index, closedRow);
        } else {
            rowOf.set(node.index, rows.length);
            rows.push({ node, depth: chain.length });
        }
    }
    putGone("end");
    gutter = parseInt(getComputedStyle(document.documentElement).getPropertyValue("--gutter"), 10);
    rowHeight = Math.max(34, Math.min(50, Math.floor($("list").clientHeight / rows.length)));
    $("list").style.setProperty("--row", rowHeight + "px");
    $("sheet").style.height = rows.length * rowHeight + "px";
}

function toggleScope(scope) {
    if (!closedScopes.delete(scope)) closedScopes.add(scope);
    layOut();
    showStep(current, true);
}

function toggleAll() {
    if (closedScopes.size > 0) closedScopes.clear();
    else tape.scopes.forEach((scope, number) => scope.depth === 1 && closedScopes.add(number));
    layOut();
    showStep(current, true);
}

// ---- the look of a row --------------------------------------------------------------------------------------------

const kindOf = (node) =>
    node.parameter
        ? "parameter"
        : node.leaf
          ? node.needs_gradient
              ? "input"
              : "constant"
          : node.result
            ? "result"
            : "operation";

function classesOf(node) {
    const computed = computedAt.get(node.index) <= current,
        gradient = gradientState(node, current);
    const list = [kindOf(node)];
    if (!computed) list.push("later");
    if (gradient === 1) list.push("partial");
    if (gradient === 2) list.push("done");
    if (highlighted.has(node.index)) list.push(highlighted.get(node.index));
    if (foundNodes.has(node.index)) list.push("found");
    if (differenceOf(node.index)) list.push("changed");
    return list.join(" ");
}

function nodeRow(row, number) {
    const node = row.node,
        gradient = gradientAfter(node, current),
        state = gradientState(node, current);
    const isComputed = computedAt.get(node.index) <= current;
    const merges = node.term_count > 1;
    return element(
        "div",
        {
            class: "row " + classesOf(node),
            role: "treeitem",
            id: "row" + number,
            "aria-level": row.depth + 1,
            "aria-setsize": rows.length,
            "aria-posinset": number + 1,
            "aria-selected": String(number === activeRow),
            style: "top:" + number * rowHeight + "px;--depth:" + row.depth,
            "data-row": number,
        },
        element("span", { class: "index" }, String(node.index)),
        element(
            "span",
            { class: "node" },
            node.leaf || !isComputed ? plainMath(node.index) : valueMath(node),
            element("span", { class: "op" }, node.result ? "" : opOf(node).name),
        ),
        element("span", { class: "value" }, isComputed ? shortText(node.value) : ""),
        element(
            "span",
            { class: "gradient" },
            merges && state > 0
                ? element("b", { class: "merge", title: "merge of " + node.term_count }, state === 1 ? "+…" : "Σ")
                : null,
            state === 0 ? "" : gradient ? shortText(gradient) : "given back",
        ),
    );
}

function scopeRow(row, number) {
    const scope = tape.scopes[row.scope],
        isClosed = closedScopes.has(row.scope);
    const holds = [...highlighted.keys()].some((index) => rowOf.get(index) === number);
    return element(
        "div",
        {
            class: "row scope" + (holds ? " holds" : ""),
            role: "treeitem",
            id: "row" + number,
            "aria-level": row.depth + 1,
            "aria-setsize": rows.length,
            "aria-posinset": number + 1,
            "aria-expanded": !isClosed ? "true" : "false",
            "aria-selected": String(number === activeRow),
            style: "top:" + number * rowHeight + "px;--depth:" + row.depth,
            "data-row": number,
        },
        element("span", { class: "fold", "aria-hidden": "true" }, isClosed ? "▸" : "▾"),
        element("span", { class: "scope-name" }, scope.name),
        element(
            "span",
            { class: "scope-totals" },
            [
                countText(scope.operations, "operation"),
                byteText(scope.saved_bytes) + " saved",
                scope.merges ? countText(scope.merges, "merge") : "",
            ]
                .filter(Boolean)
                .join(" · "),
        ),
    );
}

function gapRow(row, number) {
    return element(
        "div",
        {
            class: "row gap",
            role: "treeitem",
            id: "row" + number,
            "aria-level": 1,
            "aria-setsize": rows.length,
            "aria-posinset": number + 1,
            style: "top:" + number * rowHeight + "px",
            "data-row": number,
        },
        "⋮ " + countText(row.gap, "more node") + " ⋮",
    );
}

function onlyRow(row, number) {
    return element(
        "div",
        {
            class: "row only",
            role: "treeitem",
            id: "row" + number,
            "aria-level": 1,
            "aria-setsize": rows.length,
            "aria-posinset": number + 1,
            style: "top:" + number * rowHeight + "px",
            "data-row": number,
        },
        element("b", null, "only " + difference.names[0]),
        element("s", null, row.only.label + " (" + other.ops[row.only.op].name + ")"),
        element("span", null, shortText(row.only.value)),
    );
}

function rowElement(row, number) {
    if (row.node) return nodeRow(row, number);
    if (row.scope !== undefined) return scopeRow(row, number);
    return row.only ? onlyRow(row, number) : gapRow(row, number);
}

// ---- arcs ---------------------------------------------------------------------------------------------------------

// From row a to row b, out to the left: further for rows far apart.
function arcPath(a, b, top, end = gutter - 6) {
    const from = a * rowHeight + rowHeight / 2 - top,
        to = b * rowHeight + rowHeight / 2 - top;
    const reach = gutter - 10 - Math.min(gutter - 16, 10 + (gutter / 6.5) * Math.log2(1 + Math.abs(b - a)));
    const right = gutter - 6;
    return "M" + right + " " + from + "C" + reach + " " + from + " " + reach + " " + to + " " + end + " " + to;
}

// The edges that touch the rows in sight, once for each pair of rows.
function edgesInSight(first, end) {
    const edges = new Map();
    const add = (from, to) => {
        const a = rowOf.get(from),
            b = rowOf.get(to);
        if (a === undefined || b === undefined || a === b) return;
        const key = a + ":" + b;
        edges.set(key, {
            a,
            b,
            flowed: flowedAt.get(to + ":" + from) <= current || (edges.has(key) && edges.get(key).flowed),
        });
    };
    for (let number = first; number < end; number++) {
        const node = rows[number].node;
        if (!node) continue;
        for (const input of node.inputs) add(input, node.index);
        for (const consumer of (consumersOf.get(node.index) || []).slice(0, 60)) add(node.index, consumer);
    }
    for (let number = first; number < end; number++) {
        if (!closedScopes.has(rows[number].scope)) continue; // what a closed scope takes and gives
        for (const node of tape.nodes) {
            if (rowOf.get(node.index) !== number) continue;
            node.inputs.forEach((input) => add(input, node.index));
            (consumersOf.get(node.index) || []).forEach((consumer) => add(node.index, consumer));
        }
    }
    return edges;
}

function drawArcs(first, end, top, height) {
    const svg = $("arcs");
    svg.setAttribute("width", gutter);
    svg.setAttribute("height", height);
    svg.style.top = top + "px";
    const marker = (id) =>
        vector(
            "marker",
            {
                id,
                viewBox: "0 0 8 8",
                refX: 6,
                refY: 4,
                markerWidth: 10,
                markerHeight: 10,
                markerUnits: "userSpaceOnUse",
                orient: "auto",
            },
            vector("path", { d: "M0 0L8 4L0 8z" }),
        );
    const paths = [];
    for (const { a, b, flowed } of edgesInSight(first, end).values())
        paths.push(vector("path", { class: flowed ? "arc flowed" : "arc", d: arcPath(a, b, top) }));
    for (const { from, to, kind } of flowing) {
        const a = rowOf.get(from),
            b = rowOf.get(to);
        if (a === undefined || b === undefined || a === b) continue;
        paths.push(
            vector("path", {
                class: "arc " + kind,
                d: arcPath(a, b, top, gutter - 10),
                "marker-end": "url(#" + kind + "-head)",
            }),
        );
    }
    const dots = [];
    for (let number = first; number < end; number++) {
        const node = rows[number].node;
        if (node)
            dots.push(
                vector("circle", {
                    class: "dot " + classesOf(node),
                    cx: gutter - 4,
                    cy: number * rowHeight + rowHeight / 2 - top,
                    r: node.term_count > 1 ? 5 : 3.5,
                }),
            );
    }
    svg.replaceChildren(vector("defs", null, marker("ahead-head"), marker("back-head")), ...paths, ...dots);
}

// ---- drawing ------------------------------------------------------------------------------------------------------

function drawList() {
    const list = $("list"),
        spare = 6;
    const first = Math.max(0, Math.floor(list.scrollTop / rowHeight) - spare);
    const end = Math.min(rows.length, Math.ceil((list.scrollTop + list.clientHeight) / rowHeight) + spare);
    const drawn = [];
    for (let number = first; number < end; number++) drawn.push(rowElement(rows[number], number));
    $("rows").replaceChildren(...drawn);
    drawArcs(first, end, first * rowHeight, (end - first) * rowHeight);
    if (activeRow >= first && activeRow < end) list.setAttribute("aria-activedescendant", "row" + activeRow);
    else list.removeAttribute("aria-activedescendant");
}

// All rows, for the printer.
function drawWholeList() {
    const end = Math.min(rows.length, 2000);
    $("rows").replaceChildren(...rows.slice(0, end).map(rowElement));
    drawArcs(0, end, 0, end * rowHeight);
}

function scrollToRow(number) {
    const list = $("list"),
        top = number * rowHeight,
        margin = Math.min(3 * rowHeight, list.clientHeight / 4);
    if (top < list.scrollTop + margin) list.scrollTop = top - margin;
    else if (top + rowHeight > list.scrollTop + list.clientHeight - margin)
        list.scrollTop = top + rowHeight - list.clientHeight + margin;
}
