/* The tokens of a text, one after the other, and what goes wrong with them. Nesting is bounded: a text may come from
 * anywhere. */
#include "tools/adtape/parser.h"

#include <stdlib.h>

enum { deepest = 200 };

void advance(parser *p) {
    if (p->now.kind == TOKEN_BAD) return;
    p->now = read_token(p->source, p->now.at + p->now.length, p->brackets > 0, p->fault);
}

void start_parser(parser *p) {
    p->now = (cmd_token){.kind = 0, .at = p->source->start};
    advance(p);
}

void open_bracket(parser *p) {
    p->brackets++;
    advance(p);
}

bool close_bracket(parser *p, char bracket, size_t opened) {
    if (p->now.kind != bracket) {
        char *place = place_in(p->source, opened);
        FAIL_AT(p, p->now.at, "'%c' is missing: the bracket at %s is still open", bracket, place);
        free(place);
        return false;
    }
    p->brackets--;
    advance(p);
    return true;
}

bool deeper(parser *p) {
    if (++p->depth <= deepest) return true;
    return FAIL_AT(p, p->now.at, "nested more than %d deep", deepest);
}

cmd_token next_token(const parser *p) {
    cmd_fault ignored = {0};
    return read_token(p->source, p->now.at + p->now.length, p->brackets > 0, &ignored);
}
