/* Inside the transforms: which columns of a sparse matrix may be multiplied together. A colour is a group. */
#ifndef AD_COLORING_INTERNAL_H
#define AD_COLORING_INTERNAL_H

#include <stdint.h>

/* Where the elements of a matrix are, by rows. */
typedef struct ad_pattern {
    int64_t rows, columns;
    int64_t *start, *column;
} ad_pattern;

/* Each returns the number of colours and sets color[columns]; `forbidden` is scratch, [columns + 1]. All are greedy: in
 * order, each column gets the first colour that nothing forbids. */

/* No two columns of one colour have an element in the same row. */
int64_t ad_color_columns(const ad_pattern *pattern, const ad_pattern *transposed, int64_t *color, int64_t *forbidden);
/* Of a symmetric pattern, whose rows are taken as the vertices of a graph. Neighbours differ, and every path over four
 * vertices has three colours: then each element is alone in its row among those of its colour, or its mirror image is. */
int64_t ad_color_star(const ad_pattern *symmetric, int64_t *color, int64_t *forbidden);
/* Of a symmetric pattern: neighbours differ. */
int64_t ad_color_neighbours(const ad_pattern *symmetric, int64_t *color, int64_t *forbidden);

#endif
