/* The formulas of ops as text, with names for inputs and results that belong to no tape. */
#ifndef ADTAPE_FORMULA_H
#define ADTAPE_FORMULA_H

#include <adtape.h>

#include <stdio.h>

/* x; or a, b, c; or x0, x1, ...: how input i is called. A bar goes over the letter. */
void put_input(FILE *out, const ad_op *op, int i, bool bar);
void put_result(FILE *out, int k, bool bar);
/* A formula with these names in it, and `attrs` for the attributes. */
void put_formula(FILE *out, const ad_op *op, const char *attrs, const char *formula);

#endif
