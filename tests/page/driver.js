// Put behind a page by tests/test_page.c: uses it as a reader would, and leaves what it found in the document.
(() => {
    "use strict";
    const lines = [];
    const say = (...words) => lines.push(words.join(" "));
    const expect = (what, holds) => say(holds ? "ok" : "FAILED", what);
    const get = (id) => document.getElementById(id);
    const press = (key, target = document.body) =>
        target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    const text = (selector) => [...document.querySelectorAll(selector)].map((part) => part.textContent).join("|");
    const count = (selector) => document.querySelectorAll(selector).length;
    const step = () => Number(get("slider").value);
    const last = Number(get("slider").max);
    const laidOut = () => document.body.offsetHeight; // makes the browser do all of its work

    function stepping() {
        press("Home");
        expect("the first step is shown", step() === 0 && get("back").disabled && !get("next").disabled);
        get("next").click();
        expect("a button steps forward", step() === 1);
        press("ArrowRight");
        const there = step();
        press("ArrowLeft");
        expect("keys step forward and back", there === Math.min(2, last) && step() === there - 1);
        get("slider").value = last;
        get("slider").dispatchEvent(new Event("input"));
        expect("the slider goes to the last step", step() === last && get("next").disabled);
        expect("the address tells the step", location.hash === "#" + (last + 1));
        expect(
            "the slider says in words where it is",
            get("slider")
                .getAttribute("aria-valuetext")
                .startsWith("Step " + (last + 1)),
        );
    }

    // Every step, or about 200 of them, with the time that one takes.
    function everyStep() {
        const stride = Math.max(1, Math.floor(last / 200)),
            begin = performance.now();
        let shown = 0,
            titles = 0;
        for (let at = 0; at <= last; at += stride, shown++) {
            get("slider").value = at;
            get("slider").dispatchEvent(new Event("input"));
            laidOut();
            if (text("#stage h2") !== "") titles++;
        }
        say("step", ((performance.now() - begin) / shown).toFixed(1), "ms");
        expect("every step has a title", titles === shown);
        expect("few rows are in the document", count(".row") < 80);
    }

    function tree() {
        press("b");
        const list = get("list"),
            active = get(list.getAttribute("aria-activedescendant"));
        expect("the active row is in the tree", active && active.getAttribute("role") === "treeitem");
        const size = Number(active.getAttribute("aria-setsize"));
        press("ArrowUp", list);
        expect(
            "a key moves in the tree",
            Number(get(list.getAttribute("aria-activedescendant")).getAttribute("aria-posinset")) ===
                Number(active.getAttribute("aria-posinset")) - 1,
        );
        press("c");
        list.scrollTop = 0;
        dispatchEvent(new Event("resize")); // draws at once, as scrolling does with the next frame
        const closed = document.querySelector('.row.scope[aria-expanded="false"]');
        if (closed) {
            expect("a closed scope hides its rows", Number(closed.getAttribute("aria-setsize")) < size);
            press("c");
            expect(
                "and shows them again",
                Number(document.querySelector(".row").getAttribute("aria-setsize")) === size,
            );
        }
    }

    function searching() {
        const field = get("search");
        field.value = text(".row .op")
            .split("|")
            .find((name) => name);
        field.dispatchEvent(new Event("input"));
        expect("the search finds nodes", Number(get("found").textContent) > 0 && count(".row.found") > 0);
        press("Enter", field);
        expect("and goes to one", document.querySelector('.row.found[aria-selected="true"]') !== null);
        field.value = "\u0001 nothing is called that";
        field.dispatchEvent(new Event("input"));
        expect("or finds none", get("found").textContent === "0" && count(".row.found") === 0);
        field.value = "";
        field.dispatchEvent(new Event("input"));
    }

    function looks() {
        const ground = () => getComputedStyle(document.body).backgroundColor,
            before = ground();
        get("theme").click();
        expect("light and dark differ", ground() !== before);
        get("theme").click();
        expect("and change back", ground() === before);
        press("?");
        expect("the keys are shown", !get("keys").hidden);
        press("?");
        expect("nothing is wider than the page", document.documentElement.scrollWidth <= innerWidth);
        const unnamed = [...document.querySelectorAll("button, input, canvas, [tabindex]")].filter(
            (part) =>
                !(
                    part.getAttribute("aria-label") ||
                    part.textContent.trim() ||
                    part.closest("label") ||
                    part.id === "stage"
                ),
        );
        expect("every control has a name", unnamed.length === 0);
    }

    function merging() {
        press("Home");
        press("m");
        if (!document.querySelector(".merge-part")) return;
        say("merge", text(".merge-part .card td"));
    }

    function differing() {
        press("Home");
        press("n");
        if (!document.querySelector(".difference-part")) return;
        expect("rows that differ are marked", count(".row.changed") > 0);
        say(
            "differs",
            text(".difference-part h3"),
            text(".difference-part .note"),
            text(".difference-part td"),
            "marked",
            text(".difference-part td.differs"),
        );
        say("only", text(".row.only"));
    }

    laidOut();
    say("load", performance.now().toFixed(0), "ms");
    say("title", document.title);
    say("math", count("math"));
    if (last > 0) for (const part of [stepping, everyStep, tree, searching, looks, merging, differing]) part();
    for (const failure of pageErrors) say("FAILED", failure);
    document.documentElement.append(
        Object.assign(document.createElement("pre"), { id: "report", textContent: lines.join("\n") }),
    );
})();
