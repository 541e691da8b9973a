/* Words of the expression language. */
#ifndef ADTAPE_LEXER_H
#define ADTAPE_LEXER_H

#include "tools/adtape/command.h"

/* One character stands for itself. */
enum {
    TOKEN_END = 256,
    TOKEN_SEPARATOR, /* ; or the end of a line, but not within brackets */
    TOKEN_NUMBER,
    TOKEN_NAME,
    TOKEN_POWER, /* ^ or ** */
    TOKEN_EQUAL,
    TOKEN_NOT_EQUAL,
    TOKEN_LESS_EQUAL,
    TOKEN_GREATER_EQUAL,
    TOKEN_BAD /* the fault says why */
};

typedef struct cmd_token {
    int kind;
    size_t at, length;
    double number;
} cmd_token;

/* The token at or after `at`. */
cmd_token read_token(const cmd_source *source, size_t at, bool in_brackets, cmd_fault *fault);
bool token_is(const cmd_source *source, const cmd_token *token, const char *name);

#endif
