/* Reading expressions: what its parts share. The text goes through parser.c, and becomes literals (literal.c), calls (call.c)
 * and steps (steps.c); parse.c is the grammar. */
#ifndef ADTAPE_PARSER_H
#define ADTAPE_PARSER_H

#include "tools/adtape/lexer.h"

typedef struct parser {
    cmd_program *program;
    const cmd_source *source;
    cmd_fault *fault;
    cmd_token now;
    int depth, brackets;
    cmd_place place; /* of the step that was made last */
} parser;

/* ---- tokens (parser.c) ------------------------------------------------------------------------------------------- */

void start_parser(parser *p); /* at the first token */
void advance(parser *p);
cmd_token next_token(const parser *p); /* the one after p->now */
void open_bracket(parser *p);          /* line ends are blanks until it is closed */
bool close_bracket(parser *p, char bracket, size_t opened);
bool deeper(parser *p); /* false, and a fault, if that is too deep; p->depth is to be counted down again */

static inline int length_of(const cmd_token *t) { return t->length < 100 ? (int)t->length : 100; }
static inline const char *text_of(const parser *p, const cmd_token *t) { return p->source->text + t->at; }

/* Every failure ends here; that of the lexer came first. */
#define FAIL_AT(p, at, ...)                                                                                          \
    ((p)->now.kind == TOKEN_BAD || (p)->fault->status ? false                                                        \
                                                      : set_fault_at((p)->fault, (p)->source, at, __VA_ARGS__))
#define NO_STEP_AT(p, at, ...) (FAIL_AT(p, at, __VA_ARGS__), -1)

/* ---- literals (literal.c) ---------------------------------------------------------------------------------------- */

bool constant_of(const parser *p, const cmd_token *t, double *value); /* pi, inf, nan */
bool read_signed(parser *p, double *value, const char *otherwise); /* a number, perhaps with signs; else that fault */
bool read_array(parser *p, cmd_literal *out);

/* ---- steps (steps.c): they return the number of the new one, or -1 ------------------------------------------------ */

int add_step(parser *p, step_kind kind, size_t at);
int add_number(parser *p, size_t at, double value);
int add_operation(parser *p, size_t at, const char *name, int n, const int *inputs); /* of an operator */
/* Takes the attributes over. */
int add_call(parser *p, size_t at, const cmd_function *f, int n, const int *inputs, void *attrs);
/* The op with a constant, such as scale: the literal becomes its attribute. */
int add_with_constant(parser *p, size_t at, const char *name, int input, int constant);
int add_power(parser *p, size_t at, int base, int exponent);
bool is_number(const parser *p, int step);
int add_slot(cmd_program *to, const char *name, size_t length);

/* ---- the grammar ------------------------------------------------------------------------------------------------- */

int parse_expression(parser *p);
int parse_call(parser *p, const cmd_token *name); /* call.c: what follows a name */

#endif
