/* What happened on a tape as a chain of equations: forward, each value from those above it; backward, each gradient as
 * the sum of what its consumers passed on. A notation says how the parts of one are written. */
#ifndef AD_DUMP_EQUATIONS_H
#define AD_DUMP_EQUATIONS_H

#include "autodiff/dump/dump.h"

typedef struct ad_equation {
    ad_string left, right;
} ad_equation;
void ad_equation_open(ad_equation *equation, const ad_dump *dump);
void ad_equation_close(ad_equation *equation, ad_dump *dump); /* which fails if there was no memory */

/* Fill it in for one node; false: there is none. */
bool ad_forward_equation(ad_equation *equation, const ad_dump *dump, const ad_notation *notation, int64_t index);
bool ad_reverse_equation(ad_equation *equation, const ad_dump *dump, const ad_notation *notation, int64_t index);

#endif
