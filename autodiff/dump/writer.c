/* Where a dump goes: buffered, coloured if asked for, and without blanks at the ends of lines. */
#include "autodiff/dump/dump.h"

#include <stdio.h>
#include <string.h>

/* SGR codes (ECMA-48); none of them is hard to read on either a dark or a light ground. */
static const char *const codes[AD_STYLE_COUNT] = {
    [AD_STYLE_PLAIN] = NULL,       [AD_STYLE_TITLE] = "1",    [AD_STYLE_FAINT] = "2",  [AD_STYLE_INPUT] = "36",
    [AD_STYLE_PARAMETER] = "1;36", [AD_STYLE_NODE] = "1",     [AD_STYLE_SAVED] = "32", [AD_STYLE_GRADIENT] = "31",
    [AD_STYLE_MERGE] = "1;35",     [AD_STYLE_ERROR] = "1;31",
};

void ad_writer_flush(ad_writer *writer) {
    if (writer->used && !writer->failed) writer->failed = !writer->write(writer->user, writer->buffer, writer->used);
    writer->used = 0;
}

static void put_raw(ad_writer *writer, const char *text, size_t length) {
    while (length > 0 && !writer->failed) {
        size_t room = sizeof writer->buffer - writer->used, part = length < room ? length : room;
        memcpy(writer->buffer + writer->used, text, part);
        writer->used += part;
        text += part;
        length -= part;
        if (writer->used == sizeof writer->buffer) ad_writer_flush(writer);
    }
}

static void put_blanks(ad_writer *writer) {
    for (; writer->blanks > 0; writer->blanks--) put_raw(writer, " ", 1);
}

void ad_writer_put(ad_writer *writer, const char *text, size_t length) {
    size_t ends = length;
    while (ends > 0 && text[ends - 1] == ' ') ends--;
    if (ends > 0) {
        put_blanks(writer);
        put_raw(writer, text, ends);
    }
    writer->blanks += (int)(length - ends);
}

void ad_writer_styled(ad_writer *writer, ad_style style, const char *text, size_t length) {
    size_t starts = 0;
    while (starts < length && text[starts] == ' ') starts++;
    bool colour = writer->colour && codes[style] && starts < length;
    writer->blanks += (int)starts;
    if (colour) {
        put_blanks(writer);
        put_raw(writer, "\033[", 2);
        put_raw(writer, codes[style], strlen(codes[style]));
        put_raw(writer, "m", 1);
    }
    ad_writer_put(writer, text + starts, length - starts);
    if (colour) put_raw(writer, "\033[0m", 4);
}

void ad_writer_print(ad_writer *writer, const char *format, ...) {
    char text[1536];
    size_t length = 0;
    va_list args;
    va_start(args, format);
    text[0] = '\0';
    ad_text_add_v(text, sizeof text, &length, format, args);
    va_end(args);
    ad_writer_put(writer, text, strlen(text));
}

void ad_writer_line(ad_writer *writer) {
    writer->blanks = 0;
    put_raw(writer, "\n", 1);
}
