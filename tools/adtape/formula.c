#include "tools/adtape/formula.h"

static const char combining_bar[] = "\u0304";

void put_input(FILE *out, const ad_op *op, int i, bool bar) {
    const char *over = bar ? combining_bar : "";
    if (op->inputs == 1) {
        fprintf(out, "x%s", over);
    } else if (op->inputs > 0 && op->inputs <= 3) {
        fprintf(out, "%c%s", 'a' + i, over);
    } else {
        fprintf(out, "x%s%d", over, i);
    }
}

void put_result(FILE *out, int k, bool bar) {
    fprintf(out, "y%s", bar ? combining_bar : "");
    if (k > 0) fprintf(out, "%d", k);
}

void put_formula(FILE *out, const ad_op *op, const char *attrs, const char *formula) {
    ad_formula_part part;
    while (ad_formula_next(&formula, &part)) {
        switch (part.kind) {
        case AD_FORMULA_TEXT: fprintf(out, "%.*s", (int)part.length, part.text); break;
        case AD_FORMULA_INPUT: put_input(out, op, part.number, part.is_cotangent); break;
        case AD_FORMULA_RESULT: put_result(out, part.number, part.is_cotangent); break;
        case AD_FORMULA_ATTRS: fputs(attrs, out); break;
        }
    }
}
