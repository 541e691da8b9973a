// Formulas as MathML. The tape has templates (op.h): $0, $1 are inputs, $y results, $a attributes; ~ is the gradient.
// The rest is read as people write mathematics: a / b is a fraction, ^ raises, [condition] is 1 or 0, words stay words.

const mathml = (name, attributes, ...children) =>
    build(document.createElementNS("http://www.w3.org/1998/Math/MathML", name), attributes, children);
const mo = (text, attributes) => mathml("mo", attributes, text);
const mi = (text) => mathml("mi", text.length > 1 ? { mathvariant: "normal" } : null, text);
const mn = (text) => mathml("mn", null, text);
const mtext = (text) => mathml("mtext", null, text);
const mrow = (...children) => mathml("mrow", null, ...children);
// Brackets grow with what is high; with the rest some fonts would set them too far apart.
function bracketed(open, content, close) {
    const isHigh = [content, ...content.querySelectorAll("*")].some((part) =>
        ["mfrac", "mtable", "msqrt"].includes(part.localName),
    );
    const bracket = (text, form) => mo(text, { form, stretchy: String(isHigh) });
    return mrow(bracket(open, "prefix"), content, bracket(close, "postfix"));
}
const thin = () => mathml("mspace", { width: "0.17em" });
const wide = () => mathml("mspace", { width: "0.36em" });

// ---- names --------------------------------------------------------------------------------------------------------

// A node by its label: v3 and x2 get an index below, the gradient a bar above; x#7 is node 7 of several called x.
function nameMath(label, isBar) {
    const numbered = /^(.+)(#[0-9]+)$/.exec(label);
    if (numbered) return mathml("msub", null, nameMath(numbered[1], isBar), mtext(numbered[2]));
    const parts = /^([A-Za-z])([0-9]+)$/.exec(label);
    const letter = mi(parts ? parts[1] : label);
    const name = isBar
        ? mathml("mover", { accent: "true", class: "bar" }, letter, mo("¯", { stretchy: label.length > 1 && !parts }))
        : letter;
    return parts ? mathml("msub", null, name, mn(parts[2])) : name;
}

// Whether it begins or ends with a name of several letters, which would run into the next one.
const isLong = (math) =>
    [...math.querySelectorAll("mi"), math].some((part) => part.localName === "mi" && part.textContent.length > 1);

// ---- tokens -------------------------------------------------------------------------------------------------------

const tokenParts = [
    /\s+/,
    /([$~])(y[0-9]?|[0-9]+|a)/, // a reference
    /([0-9]+(?:\.[0-9]+)?)/,
    /([A-Za-z][A-Za-z0-9_]*(?:-[a-z]{2,}[a-z0-9]*)*(?:'s)?)/, // a word: "sum_to", "row-major", "kernel's"
    /(\+=|-=|<=|>=|!=|\.\.\.)/,
    /([^])/,
];
const tokenPattern = new RegExp(tokenParts.map((part) => part.source).join("|"), "gu");

function tokensOf(template) {
    const tokens = [];
    let space = false;
    for (const match of template.matchAll(tokenPattern)) {
        const [text, sign, reference, number, word, operator, other] = match;
        if (/^\s/.test(text)) {
            space = true;
            continue;
        }
        const kind = sign ? "reference" : number ? "number" : word ? "word" : "sign";
        tokens.push({ kind, text: operator || other || text, isBar: sign === "~", reference, space });
        space = false;
    }
    return tokens;
}

// ---- the parser ---------------------------------------------------------------------------------------------------

const greek = { pi: "π", Phi: "Φ", phi: "φ", Gamma: "Γ", epsilon: "ε", infinity: "∞", inf: "∞" };
const relations = {
    "=": "=",
    "+=": "+=",
    "-=": "−=",
    "<": "<",
    ">": ">",
    "<=": "≤",
    ">=": "≥",
    "!=": "≠",
    ",": ",",
    ";": ";",
    ":": ":",
};
const closing = { "(": ")", "[": "]", "<": ">" };

// `named(token)` makes the MathML of a reference. Each function returns { math, bare }: bare is without parentheses.
class FormulaParser {
    constructor(template, named, inRow) {
        this.inRow = inRow; // no cases, which take two lines
        this.tokens = tokensOf(template);
        this.at = 0;
        this.named = named;
        this.closers = [];
    }
    peek(text) {
        const token = this.tokens[this.at];
        return token && (text === undefined || (token.kind === "sign" && token.text === text)) ? token : null;
    }
    take(text) {
        const token = this.peek(text);
        if (token) this.at++;
        return token;
    }
    isClosed() {
        const token = this.peek();
        return (
            !token ||
            (token.kind === "sign" &&
                (token.text === this.closers[this.closers.length - 1] || ")]?".includes(token.text)))
        );
    }
    // Everything up to the closing bracket: relations and lists. A condition ? a : b becomes cases.
    list() {
        const parts = [];
        while (!this.isClosed()) {
            const token = this.peek();
            if (token.kind === "sign" && token.text in relations) {
                if (token.text === ":" && this.inCases) break;
                this.at++;
                parts.push(mo(relations[token.text]));
                if (token.text === "," || token.text === ";") parts.push(wide());
            } else {
                parts.push(this.sum().math);
            }
        }
        if (!this.take("?")) return mrow(...parts);
        // What stands in front of the condition, as in "y = x > 0 ? x : 0", stays in front of the cases.
        const cut =
            parts.findIndex((part) => part.localName === "mo" && ["=", "+=", "−="].includes(part.textContent)) + 1;
        const cases = this.cases(mrow(...parts.slice(cut)));
        return cut > 0 ? mrow(...parts.slice(0, cut), cases) : cases;
    }
    cases(condition) {
        const outer = this.inCases;
        this.inCases = true;
        const yes = this.list();
        this.take(":");
        this.inCases = outer;
        const no = this.list();
        if (this.inRow) return mrow(condition, mo("?"), yes, mo(":"), no);
        const line = (value, ...when) =>
            mathml(
                "mtr",
                null,
                mathml("mtd", { style: "text-align:left" }, value),
                mathml("mtd", { style: "text-align:left" }, ...when),
            );
        const table = mathml("mtable", null, line(yes, mtext("if\u00a0"), condition), line(no, mtext("else")));
        return mathml("mrow", { class: "cases" }, mo("{", { form: "prefix" }), table);
    }
    sum() {
        let math = this.product();
        while (this.peek("+") || this.peek("-")) {
            const sign = this.take().text === "-" ? "−" : "+";
            math = { math: mrow(math.math, mo(sign), this.product().math) };
            math.bare = math.math;
        }
        return math;
    }
    startsFactor() {
        const token = this.peek();
        if (!token || this.isClosed()) return false;
        return token.kind !== "sign" || !("+-*/^" + Object.keys(relations).join("")).includes(token.text);
    }
    // Side by side is a product, of words a sentence. What stands before a /, back to the last word, is above the line.
    product() {
        const before = [];
        let left = this.factor(),
            word = this.lastIsWord;
        for (;;) {
            if (this.take("*")) {
                left = { math: mrow(left.math, mo("·"), this.factor().math) };
            } else if (this.take("/")) {
                const below = this.below();
                left = { math: mathml("mfrac", null, left.bare || left.math, below.bare || below.math) };
            } else if (this.startsFactor()) {
                const right = this.factor();
                if (word || this.lastIsWord) {
                    before.push(left.math, wide());
                    left = right;
                } else {
                    left = {
                        math: mrow(left.math, isLong(left.math) || isLong(right.math) ? wide() : thin(), right.math),
                    };
                }
            } else {
                return before.length
                    ? { math: mrow(...before, left.math) }
                    : { math: left.math, bare: left.bare || left.math };
            }
            word = this.lastIsWord;
        }
    }
    // Under the line: one factor, or as many words as follow.
    below() {
        const first = this.factor();
        if (!this.lastIsWord) return first;
        const parts = [first.math];
        while (this.peek() && this.peek().kind === "word") parts.push(wide(), this.factor().math);
        return { math: mrow(...parts) };
    }
    factor() {
        if (this.take("-")) return { math: mrow(mo("−", { form: "prefix" }), this.factor().math) };
        let base = this.atom();
        for (;;) {
            const bracket = this.peek("[");
            if (this.take("^")) {
                base = { math: mathml("msup", null, base.math, this.exponent()) };
            } else if (this.take("'")) {
                base = { math: mathml("msup", null, base.math, mo("′")) };
            } else if (bracket && !bracket.space) {
                this.at++;
                base = { math: mrow(base.math, bracketed("[", this.inside("["), "]")) };
            } else {
                return base;
            }
            this.lastIsWord = false;
        }
    }
    exponent() {
        if (this.take("-")) return mrow(mo("−", { form: "prefix" }), this.exponent());
        const token = this.peek();
        if (token && token.kind === "word" && token.text === "T") {
            this.at++;
            return mi("T");
        }
        const raised = this.atom();
        return raised.bare || raised.math;
    }
    inside(bracket) {
        const outer = this.inCases;
        this.inCases = false;
        this.closers.push(closing[bracket]);
        const content = this.list();
        this.closers.pop();
        this.take(closing[bracket]);
        this.inCases = outer;
        this.lastIsWord = false;
        return content;
    }
    atom() {
        const token = this.take();
        this.lastIsWord = false;
        if (!token) return { math: mrow() };
        if (token.kind === "reference") return { math: this.named(token) };
        if (token.kind === "number") return { math: mn(token.text) };
        if (token.kind === "word") return this.word(token);
        if (token.text === "...") return { math: mo("…") };
        if (!(token.text in closing)) return { math: mo(token.text) };
        const content = this.inside(token.text);
        if (content.classList.contains("cases")) return { math: content };
        if (token.text === "(") return { math: bracketed("(", content, ")"), bare: content };
        if (token.text === "[") return { math: bracketed("[", content, "]") };
        return { math: bracketed("⟨", content, "⟩") };
    }
    word(token) {
        const next = this.peek("(");
        const isCall = next && !next.space;
        if (isCall && token.text === "sqrt") {
            this.at++;
            return { math: mathml("msqrt", null, this.inside("(")) };
        }
        if (isCall && token.text === "abs") {
            this.at++;
            return { math: bracketed("|", this.inside("("), "|") };
        }
        const name = token.text in greek ? mi(greek[token.text]) : mi(token.text);
        if (isCall) {
            this.at++;
            return { math: mrow(name, bracketed("(", this.inside("("), ")")) };
        }
        this.lastIsWord = token.text.length > 1 && !(token.text in greek);
        return { math: name };
    }
}

// ---- formulas of the tape -----------------------------------------------------------------------------------------

// A template for the operation at `node`; where it says input `from`, input `to` is meant.
function formulaMath(node, template, isBlock, from, to) {
    const inputs = opOf(node).name === "result" ? [] : node.inputs;
    const named = (token) => {
        const attrs = node.attrs || "";
        if (token.reference === "a") return /^-?[0-9.]+$/.test(attrs) ? mn(withSign(attrs)) : mtext(attrs);
        const isResult = token.reference[0] === "y";
        const number = isResult ? Number(token.reference.slice(1) || 0) : Number(token.reference);
        const index = isResult ? node.index + number : inputs[number === from ? to : number];
        return index === undefined ? mtext(token.text) : nameMath(labelOf(index), token.isBar);
    };
    const parser = new FormulaParser(template, named, !isBlock);
    const parts = [];
    while (parser.peek()) {
        parts.push(parser.list());
        if (parser.peek()) parts.push(mo(parser.take().text)); // a bracket without its partner
    }
    return mathml("math", isBlock ? { displaystyle: "true" } : null, ...parts);
}

function valueMath(node, isBlock) {
    const first = firstOf(node);
    const template = node.result ? opOf(first).result_formulas[node.result - 1] : opOf(node).formula;
    if (node.leaf) return mathml("math", isBlock ? { displaystyle: "true" } : null, nameMath(node.label, false));
    if (template) return formulaMath(first, template, isBlock);
    return mathml(
        "math",
        null,
        nameMath(node.label, false),
        mo("="),
        mtext("result " + node.result + " of " + opOf(first).name),
    );
}

// The contribution of the operation at `node` to its input.
function adjointMath(node, input, isBlock) {
    const adjoints = opOf(node).adjoints;
    const written = Math.min(input, adjoints.length - 1);
    return written < 0 ? null : formulaMath(node, adjoints[written], isBlock, written, input);
}

const barMath = (index) => mathml("math", null, nameMath(labelOf(index), true));
const plainMath = (index) => mathml("math", null, nameMath(labelOf(index), false));

// d result / d input.
function jacobianMath(result, input, isTransposed) {
    const fraction = mathml(
        "mfrac",
        null,
        mrow(mo("∂"), nameMath(labelOf(result), false)),
        mrow(mo("∂"), nameMath(labelOf(input), false)),
    );
    return mathml(
        "math",
        null,
        isTransposed ? mathml("msup", null, bracketed("(", fraction, ")"), mi("T")) : fraction,
    );
}
