#include "tools/adtape/lexer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
/* Bytes of characters outside of ASCII are letters: α is a name. */
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

/* The character at a place, '\0' past the end. */
static char at_or_end(const cmd_source *source, size_t at) { return at < source->length ? source->text[at] : '\0'; }

static size_t skip_blanks(const cmd_source *source, size_t at, bool in_brackets) {
    for (; at < source->length; at++) {
        char c = source->text[at];
        if (c == '#') {
            while (at + 1 < source->length && source->text[at + 1] != '\n') at++;
        } else if (c != ' ' && c != '\t' && c != '\r' && !(c == '\n' && in_brackets)) {
            break;
        }
    }
    return at;
}

static cmd_token read_number(const cmd_source *source, size_t at, cmd_fault *fault) {
    size_t end = at;
    while (is_digit(at_or_end(source, end))) end++;
    if (at_or_end(source, end) == '.' && !is_letter(at_or_end(source, end + 1))) end++;
    while (is_digit(at_or_end(source, end))) end++;
    if (at_or_end(source, end) == 'e' || at_or_end(source, end) == 'E') {
        size_t sign = end + 1;
        if (at_or_end(source, sign) == '+' || at_or_end(source, sign) == '-') sign++;
        if (is_digit(at_or_end(source, sign)))
            for (end = sign; is_digit(at_or_end(source, end));) end++;
    }
    cmd_token t = {.kind = TOKEN_NUMBER, .at = at, .length = end - at};
    if (is_letter(at_or_end(source, end))) {
        set_fault_at(fault, source, end, "a name begins right after a number; a product is written with *");
        t.kind = TOKEN_BAD;
        return t;
    }
    char *digits = format_text("%.*s", (int)(end - at), source->text + at);
    t.number = strtod(digits, NULL);
    free(digits);
    if (!isinf(t.number)) return t;
    set_fault_at(fault, source, at, "the number is too large; infinity is written inf");
    t.kind = TOKEN_BAD;
    return t;
}

static cmd_token read_sign(const cmd_source *source, size_t at, cmd_fault *fault) {
    static const struct {
        char text[3];
        int kind;
    } pairs[] = {{"**", TOKEN_POWER},
                 {"==", TOKEN_EQUAL},
                 {"!=", TOKEN_NOT_EQUAL},
                 {"<=", TOKEN_LESS_EQUAL},
                 {">=", TOKEN_GREATER_EQUAL}};
    char c = source->text[at];
    cmd_token t = {.kind = (unsigned char)c, .at = at, .length = 1};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (c == pairs[i].text[0] && at_or_end(source, at + 1) == pairs[i].text[1])
            return (cmd_token){.kind = pairs[i].kind, .at = at, .length = 2};
    if (c == '^') t.kind = TOKEN_POWER;
    if (c == ';' || c == '\n') t.kind = TOKEN_SEPARATOR;
    if (c != '\0' && strchr("^;\n+-*/@()[],=<>.", c)) return t;
    if (c > ' ' && c < 0x7F) {
        set_fault_at(fault, source, at, "'%c' means nothing here", c);
    } else {
        set_fault_at(fault, source, at, "byte 0x%02x means nothing here", (unsigned char)c);
    }
    t.kind = TOKEN_BAD;
    return t;
}

/* How many bytes the character has that begins here; 0 if that is not UTF-8. */
static size_t character_length(const cmd_source *source, size_t at) {
    unsigned char first = (unsigned char)source->text[at];
    size_t length = first < 0x80 ? 1 : first >= 0xC2 && first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (first >= 0x80 && first < 0xC2) return 0;
    for (size_t i = 1; i < length; i++)
        if (((unsigned char)at_or_end(source, at + i) & 0xC0) != 0x80) return 0;
    return length;
}

static cmd_token read_name(const cmd_source *source, size_t at, cmd_fault *fault) {
    cmd_token t = {.kind = TOKEN_NAME, .at = at};
    size_t end = at, length;
    for (; is_letter(at_or_end(source, end)) || is_digit(at_or_end(source, end)); end += length) {
        length = character_length(source, end);
        if (length > 0) continue;
        set_fault_at(fault, source, end, "byte 0x%02x is not UTF-8", (unsigned char)source->text[end]);
        t.kind = TOKEN_BAD;
        return t;
    }
    t.length = end - at;
    return t;
}

cmd_token read_token(const cmd_source *source, size_t at, bool in_brackets, cmd_fault *fault) {
    at = skip_blanks(source, at, in_brackets);
    if (at >= source->length) return (cmd_token){.kind = TOKEN_END, .at = source->length};
    char c = source->text[at];
    if (is_digit(c) || (c == '.' && is_digit(at_or_end(source, at + 1)))) return read_number(source, at, fault);
    if (!is_letter(c)) return read_sign(source, at, fault);
    return read_name(source, at, fault);
}

bool token_is(const cmd_source *source, const cmd_token *token, const char *name) {
    return token->kind == TOKEN_NAME && token->length == strlen(name) &&
           memcmp(source->text + token->at, name, token->length) == 0;
}
