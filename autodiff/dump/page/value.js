// Values as people read them: numbers, and cards of numbers. A small value is a matrix of numbers on a ground that
// shows sign and size; a large one is a heat map whose elements are read with the pointer or the arrow keys.

const digits = tape.precision;

// ---- numbers ------------------------------------------------------------------------------------------------------

const withSign = (text) => text.replace("-", "−").replace("e-", "e−").replace("e+", "e");

function numberText(elementOfValue, precision = digits) {
    const x = numberOf(elementOfValue);
    if (Number.isNaN(x)) return "NaN";
    if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
    if (typeof elementOfValue === "string") return withSign(elementOfValue);
    if (x === 0 || (Number.isInteger(x) && Math.abs(x) < 1e6)) return withSign(String(x + 0));
    const size = Math.abs(x);
    if (size >= 1e6 || size < 1e-4)
        return withSign(x.toExponential(Math.max(precision - 1, 0)).replace(/\.?0+e/, "e"));
    return withSign(String(Number(x.toPrecision(precision))));
}

// Numbers that stand under each other, or in cards that are added up (peers), get as many decimals as it takes to tell
// them apart, all the same.
function columnTexts(elements, peers = []) {
    return peers.length ? columnTexts([...elements, ...peers]).slice(0, elements.length) : alignedTexts(elements);
}

function alignedTexts(elements) {
    const numbers = elements.map(numberOf),
        finite = numbers.filter(Number.isFinite);
    const largest = Math.max(0, ...finite.map(Math.abs));
    const least = Math.min(Infinity, ...finite.filter((x) => x !== 0).map(Math.abs));
    const decimals = Math.min(Math.max(digits - Math.max(Math.floor(Math.log10(largest || 1)) + 1, 0), 0), 12);
    if (finite.length < numbers.length && finite.length === 0) return elements.map((x) => numberText(x));
    if (numbers.every((x) => !Number.isFinite(x) || Number.isInteger(x))) return elements.map((x) => numberText(x));
    if (largest >= 1e6 || least < 10 ** (1 - decimals)) return elements.map((x) => numberText(x));
    const fixed = numbers.map((x) => (Number.isFinite(x) ? (x + 0).toFixed(decimals) : null));
    let drop = 0;
    while (drop < decimals && fixed.every((text) => text === null || text[text.length - 1 - drop] === "0")) drop++;
    if (drop === decimals) drop++; // and the point
    return fixed.map((text, i) =>
        text === null ? numberText(elements[i]) : withSign(text.slice(0, text.length - drop)),
    );
}

const byteText = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
    return (unit && bytes < 100 ? bytes.toFixed(1) : bytes.toFixed(0)) + " " + units[unit];
};
const countText = (count, what) => count.toLocaleString("en") + " " + what + (count === 1 ? "" : "s");

function statisticsOf(value) {
    if (value.statistics) return value.statistics;
    const s = { min: Infinity, max: -Infinity, mean: 0, norm: 0, nan: 0, infinite: 0 };
    let sum = 0,
        squares = 0;
    for (const x of value.elements.map(numberOf)) {
        if (Number.isNaN(x)) {
            s.nan++;
            continue;
        }
        if (!Number.isFinite(x)) s.infinite++;
        s.min = Math.min(s.min, x);
        s.max = Math.max(s.max, x);
        sum += x;
        squares += x * x;
    }
    s.mean = sum / (value.elements.length - s.nan);
    s.norm = Math.sqrt(squares);
    return s;
}

function statisticsView(value) {
    const s = statisticsOf(value),
        parts = [];
    for (const name of ["min", "max", "mean", "norm"]) {
        if (name in s && !Number.isNaN(numberOf(s[name]))) parts.push(name + " " + numberText(s[name]));
    }
    if (s.nan) parts.push(s.nan + " NaN");
    if (s.infinite) parts.push(s.infinite + " infinite");
    return element("p", { class: "statistics" }, ...parts.map((part) => element("span", null, part)));
}

// In one line, with few digits.
function shortText(value) {
    const brief = (x) => numberText(x, Math.min(digits, 3));
    if (!value) return "";
    const count = countOf(value);
    if (count === 0) return "no elements";
    if (!value.elements) return value.statistics ? "norm " + brief(value.statistics.norm) : "not kept";
    if (value.shape.length === 0) return numberText(value.elements[0]);
    if (count > 4) return "norm " + brief(statisticsOf(value).norm);
    return "[" + value.elements.map((x) => numberText(x, Math.min(digits, 2))).join(" ") + "]";
}

// ---- colours ------------------------------------------------------------------------------------------------------

// How much of the colour of its sign an element has: 0 to 1.
const largestOf = (numbers) => Math.max(0, ...numbers.filter(Number.isFinite).map(Math.abs));

function heatOf(x, largest) {
    if (Number.isNaN(x)) return { sign: "odd", amount: 1 };
    if (!Number.isFinite(x)) return { sign: x > 0 ? "plus" : "minus", amount: 1 };
    return { sign: x < 0 ? "minus" : "plus", amount: largest > 0 ? Math.sqrt(Math.abs(x) / largest) : 0 };
}

// ---- layout -------------------------------------------------------------------------------------------------------

const most = { columns: 9, rows: 10, cells: 64 };

// Rows and columns of a value: the last axis is a row; a vector stands upright if it is short.
function gridOf(value) {
    const count = value.thumbnail ? value.thumbnail.means.length : countOf(value);
    if (value.thumbnail) return { rows: value.thumbnail.rows, columns: value.thumbnail.columns };
    const isVector = value.shape.filter((size) => size > 1).length < 2;
    if (value.shape.length > 1 && (!isVector || count <= most.columns)) {
        const columns = value.shape[value.shape.length - 1];
        return { rows: columns ? count / columns : 0, columns };
    }
    if (count <= most.rows) return { rows: count, columns: 1 };
    const columns = Math.ceil(Math.sqrt(count));
    return { rows: Math.ceil(count / columns), columns };
}

// Where element number i is, as "[1, 0]".
function placeText(value, i) {
    const at = [];
    for (let axis = value.shape.length - 1; axis >= 0; axis--) {
        at.unshift(i % value.shape[axis]);
        i = Math.floor(i / value.shape[axis]);
    }
    return at.length ? "[" + at.join(", ") + "]" : "";
}

// ---- cards --------------------------------------------------------------------------------------------------------

function numbersTable(value, grid, marked, peers) {
    const texts = columnTexts(value.elements, peers),
        numbers = value.elements.map(numberOf),
        largest = largestOf(numbers);
    const rows = [];
    for (let row = 0; row < grid.rows; row++) {
        const cells = [];
        for (let column = 0; column < grid.columns; column++) {
            const i = row * grid.columns + column;
            if (i >= numbers.length) break; // a vector may not fill the last row
            const heat = heatOf(numbers[i], largest);
            cells.push(
                element(
                    "td",
                    {
                        class: heat.sign + (marked && marked(i) ? " differs" : ""),
                        style: "--heat:" + heat.amount.toFixed(3),
                        title: placeText(value, i) + " " + String(value.elements[i]),
                    },
                    texts[i],
                ),
            );
        }
        rows.push(element("tr", null, ...cells));
    }
    return element(
        "table",
        { class: "numbers" + (value.shape.length === 0 ? " scalar" : "") },
        element("tbody", null, ...rows),
    );
}

// What a cell of a heat map says.
function cellText(value, grid, i) {
    const t = value.thumbnail;
    if (!t) return placeText(value, i) + "  " + String(value.elements[i]);
    if (t.block_rows * t.block_columns === 1) return placeText(value, i) + "  " + numberText(t.means[i]);
    const row = Math.floor(i / grid.columns) * t.block_rows,
        column = (i % grid.columns) * t.block_columns;
    return (
        "rows " +
        row +
        " to " +
        (row + t.block_rows - 1) +
        ", columns " +
        column +
        " to " +
        (column + t.block_columns - 1) +
        ": mean " +
        numberText(t.means[i])
    );
}

function paint(canvas, numbers, grid, cell) {
    const context = canvas.getContext("2d"),
        largest = largestOf(numbers),
        colour = {};
    for (const name of ["plus", "minus", "odd"]) {
        canvas.style.color = "var(--" + name + ")";
        colour[name] = getComputedStyle(canvas).color;
    }
    context.clearRect(0, 0, canvas.width, canvas.height);
    numbers.forEach((x, i) => {
        const heat = heatOf(x, largest);
        context.globalAlpha = 0.04 + 0.96 * heat.amount;
        context.fillStyle = colour[heat.sign];
        context.fillRect(
            (i % grid.columns) * cell,
            Math.floor(i / grid.columns) * cell,
            cell - (cell > 4 ? 1 : 0),
            cell - (cell > 4 ? 1 : 0),
        );
    });
}

function heatMap(value, grid, name) {
    const elements = value.thumbnail ? value.thumbnail.means : value.elements,
        numbers = elements.map(numberOf);
    const cell = Math.max(2, Math.min(14, Math.floor(176 / Math.max(grid.columns, grid.rows * 0.8))));
    const scale = Math.max(1, Math.min(3, Math.ceil(window.devicePixelRatio || 1)));
    const canvas = element("canvas", {
        width: grid.columns * cell * scale,
        height: grid.rows * cell * scale,
        tabindex: "0",
        role: "img",
        style: "width:" + grid.columns * cell + "px;height:" + grid.rows * cell + "px",
        "aria-label":
            name + ", a heat map of " + grid.rows + " by " + grid.columns + ". The arrow keys read its elements.",
    });
    const reading = element("output", { class: "reading" }, " ");
    let at = 0;
    const read = (i) => {
        at = Math.max(0, Math.min(elements.length - 1, i));
        reading.textContent = cellText(value, grid, at);
    };
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: grid.columns, ArrowUp: -grid.columns };
    canvas.addEventListener("keydown", (event) => {
        if (!(event.key in moves)) return;
        read(at + moves[event.key]);
        event.preventDefault();
        event.stopPropagation();
    });
    canvas.addEventListener("pointermove", (event) => {
        const i = Math.floor(event.offsetY / cell) * grid.columns + Math.floor(event.offsetX / cell);
        if (i >= 0 && i < elements.length) {
            read(i);
            showTip(event.clientX, event.clientY, cellText(value, grid, i));
        }
    });
    canvas.addEventListener("pointerleave", hideTip);
    repaints.push(() => paint(canvas, numbers, grid, cell * scale));
    return element("div", { class: "heat" }, canvas, reading);
}

// Heat maps are painted when they are in the page, and again when the colours change.
let repaints = [];
const repaint = () => repaints.forEach((call) => call());

// marked(i): that element differs from another tape. Peers are elements that are to look alike.
function valueView(value, name, marked, peers) {
    if (!value) return element("p", { class: "none" }, "given back");
    if (countOf(value) === 0) return element("p", { class: "none" }, "no elements");
    if (!value.elements && !value.thumbnail) return element("p", { class: "none" }, "not kept");
    const grid = gridOf(value);
    const isSmall =
        value.elements &&
        grid.columns <= most.columns &&
        grid.rows <= most.rows &&
        grid.rows * grid.columns <= most.cells;
    if (isSmall) return numbersTable(value, grid, marked, peers);
    return element("div", null, heatMap(value, grid, name), statisticsView(value));
}

// A value with its name (MathML) above and its type below.
function card(role, title, value, note, name, { marked, peers } = {}) {
    return element(
        "figure",
        { class: "card " + role },
        element("figcaption", null, title, note ? element("span", { class: "note" }, note) : null),
        valueView(value, name || "value", marked, peers),
        value ? element("p", { class: "type" }, typeOf(value)) : null,
    );
}

// ---- what the pointer is on ---------------------------------------------------------------------------------------

function showTip(x, y, text) {
    const tip = $("tip");
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = Math.min(x + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(y + 18, innerHeight - tip.offsetHeight - 8) + "px";
}
const hideTip = () => ($("tip").hidden = true);
