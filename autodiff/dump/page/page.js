// The controls: steps, keys, search, colours, and what the address says.

let current = 0;
let highlighted = new Map(); // nodes that this step is about
let flowing = []; // values or gradients that this step moves
let foundNodes = new Set();

// ---- steps --------------------------------------------------------------------------------------------------------

let speaking = 0;
function speak(text) {
    clearTimeout(speaking);
    speaking = setTimeout(() => ($("live").textContent = text), 150); // only where one stays
}

function showStep(at, isSame) {
    current = Math.max(0, Math.min(steps.length - 1, at));
    const focus = focusOf(steps[current]);
    highlighted = focus.marks;
    flowing = focus.flows;
    if (focus.index !== null && rowOf.has(focus.index)) activeRow = rowOf.get(focus.index);
    if (focus.index === null && !isSame) activeRow = 0;
    scrollToRow(activeRow);
    drawList();
    if (!isSame) drawStage(current);
    $("slider").value = current;
    $("slider").setAttribute("aria-valuetext", spoken(current));
    $("count").textContent = steps.length ? current + 1 + " / " + steps.length : "";
    $("back").disabled = $("first").disabled = current === 0;
    $("next").disabled = $("last").disabled = current >= steps.length - 1;
    if (isSame) return;
    speak(spoken(current));
    history.replaceState(null, "", "#" + (current + 1));
}

// The step of a node, in the half that one is in.
function stepOf(index) {
    const arrivals = gradientAt.get(index);
    return current >= backBegins && arrivals ? arrivals[0] : computedAt.get(index);
}

function nextMerge() {
    const isMerge = (step) => step.kind === "back" && step.node.term_count > 1 && step.number > 0;
    const after = steps.findIndex((step, at) => at > current && isMerge(step));
    const at = after >= 0 ? after : steps.findIndex(isMerge);
    if (at >= 0) showStep(at);
}

function nextDifference() {
    const isOne = (step) => step.kind !== "end" && differs.has(step.node.index);
    const after = steps.findIndex((step, at) => at > current && isOne(step));
    const at = after >= 0 ? after : steps.findIndex(isOne);
    if (at >= 0) showStep(at);
}

// ---- playing ------------------------------------------------------------------------------------------------------

let player = 0;
function play(on) {
    clearInterval(player);
    player = 0;
    if (on && current >= steps.length - 1) showStep(0);
    if (on) {
        player = setInterval(() => {
            showStep(current + 1);
            if (current >= steps.length - 1) play(false);
        }, 1400);
    }
    $("play").setAttribute("aria-pressed", on ? "true" : "false");
    $("play-face").setAttribute("d", on ? "M4 3h3v10H4zM9 3h3v10H9z" : "M2 3l6 5-6 5zM8 3l6 5-6 5z");
}

// ---- search -------------------------------------------------------------------------------------------------------

function search(text) {
    const wanted = text.trim().toLowerCase();
    const texts = (node) => [node.label, node.name, opOf(node).name, scopeOf(node).path, node.where || ""];
    const found = wanted
        ? tape.nodes.filter((node) => texts(node).some((part) => part.toLowerCase().includes(wanted)))
        : [];
    foundNodes = new Set(found.map((node) => node.index));
    $("found").textContent = wanted ? String(found.length) : "";
    drawList();
}

// The next found node after the one that is shown, round and round.
function nextFound(direction) {
    const found = [...foundNodes],
        focus = focusOf(steps[current]).index ?? -1;
    if (found.length === 0) return;
    const next =
        direction > 0
            ? (found.find((index) => index > focus) ?? found[0])
            : (found.findLast((index) => index < focus) ?? found[found.length - 1]);
    for (const scope of chainOf(nodeAt.get(next).scope || 0)) closedScopes.delete(scope);
    layOut();
    showStep(stepOf(next));
}

// ---- the list by hand ---------------------------------------------------------------------------------------------

function goToRow(number) {
    const target = rows[number];
    if (!target) return;
    activeRow = number;
    if (target.node && stepOf(target.node.index) !== undefined) showStep(stepOf(target.node.index));
    activeRow = number;
    scrollToRow(number);
    drawList();
}

$("list").addEventListener("click", (event) => {
    const hit = event.target.closest("[data-row]");
    if (!hit) return;
    const number = Number(hit.dataset.row);
    activeRow = number;
    if (rows[number].scope !== undefined) toggleScope(rows[number].scope);
    else goToRow(number);
});

$("list").addEventListener("keydown", (event) => {
    const target = rows[activeRow];
    if (event.key === "ArrowDown") goToRow(activeRow + 1);
    else if (event.key === "ArrowUp") goToRow(activeRow - 1);
    else if (event.key === "Enter" && target && target.scope !== undefined) {
        const scope = target.scope;
        toggleScope(scope);
        activeRow = rows.findIndex((row) => row.scope === scope);
        drawList();
    } else return;
    event.preventDefault();
    event.stopPropagation();
});

let isDrawing = false;
$("list").addEventListener("scroll", () => {
    if (isDrawing) return;
    isDrawing = true;
    requestAnimationFrame(() => {
        isDrawing = false;
        drawList();
    });
});

// ---- light and dark -----------------------------------------------------------------------------------------------

// A page opened from a file may not be allowed to remember.
function remembered(key, value) {
    try {
        if (value !== undefined) localStorage.setItem(key, value);
        return localStorage.getItem(key);
    } catch {
        return null;
    }
}

const isDark = () =>
    (document.documentElement.dataset.theme ||
        (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    remembered("adtape-theme", theme);
    repaint();
}

// ---- keys and buttons ---------------------------------------------------------------------------------------------

function toggleHelp() {
    $("keys").hidden = !$("keys").hidden;
    $("help").setAttribute("aria-expanded", $("keys").hidden ? "false" : "true");
}

const keys = {
    ArrowRight: () => showStep(current + 1),
    ArrowLeft: () => showStep(current - 1),
    PageDown: () => showStep(current + 10),
    PageUp: () => showStep(current - 10),
    Home: () => showStep(0),
    End: () => showStep(steps.length - 1),
    b: () => showStep(backBegins),
    m: nextMerge,
    n: nextDifference,
    c: toggleAll,
    d: () => setTheme(isDark() ? "light" : "dark"),
    " ": () => play(!player),
    "/": () => $("search").focus(),
    "?": toggleHelp,
};

document.addEventListener("keydown", (event) => {
    const inField = event.target.closest("input[type=search]"),
        onButton = event.target.closest("button, input, summary");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (inField) {
        if (event.key === "Escape") $("list").focus();
        if (event.key === "Enter") nextFound(event.shiftKey ? -1 : 1);
        return;
    }
    if (!(event.key in keys) || (event.key === " " && onButton)) return;
    event.preventDefault();
    if (event.key !== " ") play(false);
    keys[event.key]();
});

const clicks = {
    first: () => showStep(0),
    back: () => showStep(current - 1),
    next: () => showStep(current + 1),
    last: () => showStep(steps.length - 1),
    play: () => play(!player),
    theme: keys.d,
    help: toggleHelp,
};
for (const [id, call] of Object.entries(clicks)) {
    $(id).addEventListener("click", () => {
        if (id !== "play") play(false);
        call();
    });
}
$("slider").addEventListener("input", () => {
    play(false);
    showStep(Number($("slider").value));
});
$("search").addEventListener("input", () => search($("search").value));

addEventListener("resize", () => {
    layOut();
    drawList();
});
addEventListener("hashchange", () => showStep(Number(location.hash.slice(1)) - 1 || 0));
addEventListener("beforeprint", drawWholeList);
addEventListener("afterprint", drawList);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

// ---- the beginning ------------------------------------------------------------------------------------------------

function describe() {
    const totals = tape.scopes[0],
        start = nodeAt.get(tape.pass.start);
    const title =
        tape.pass.nodes > 0 && start
            ? "Backpropagation from " + start.label
            : "A tape of " + countText(tape.size, "node");
    document.title = title;
    $("title").textContent = title;
    $("summary").textContent = [
        countText(totals.nodes, "node"),
        countText(totals.operations, "operation"),
        byteText(totals.saved_bytes) + " saved",
        tape.pass.nodes > 0 ? countText(totals.merges, "merge") : "no backward pass yet",
        difference && differenceSummary(),
    ]
        .filter(Boolean)
        .join("  ·  ");
    $("error").hidden = !tape.error;
    $("error").textContent = tape.error ? tape.status + ": " + tape.error : "";
}

if (remembered("adtape-theme")) document.documentElement.dataset.theme = remembered("adtape-theme");
$("difference-key").hidden = !difference;
describe();
play(false);
$("slider").max = Math.max(steps.length - 1, 0);
$("track").style.setProperty("--turn", (100 * Math.min(backBegins, steps.length)) / Math.max(steps.length, 1) + "%");
layOut();
showStep(Number(location.hash.slice(1)) - 1 || 0);
