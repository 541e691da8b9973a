/* Strings that grow, and the widths of characters on a terminal. */
#include "autodiff/dump/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- strings --------------------------------------------------------------------------------------------------- */

static bool reserve(ad_string *string, size_t more) {
    if (string->failed) return false;
    if (string->room - string->length > more) return true;
    size_t room = string->room ? string->room * 2 : 128;
    while (room - string->length <= more) room *= 2;
    char *data = ad_allocate(string->allocator, room, 1);
    string->failed = !data;
    if (!data) return false;
    if (string->length) memcpy(data, string->data, string->length);
    ad_release(string->allocator, string->data, string->room);
    string->data = data;
    string->room = room;
    return true;
}

void ad_string_put(ad_string *string, const char *data, size_t length) {
    if (!reserve(string, length)) return;
    memcpy(string->data + string->length, data, length);
    string->length += length;
    string->data[string->length] = '\0';
}

void ad_string_print(ad_string *string, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    if (length > 0 && reserve(string, (size_t)length)) {
        vsnprintf(string->data + string->length, (size_t)length + 1, format, again);
        string->length += (size_t)length;
    }
    va_end(again);
    va_end(args);
}

void ad_string_bytes(ad_string *string, uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double amount = (double)bytes;
    int unit = 0;
    for (; amount >= 1024; unit++) amount /= 1024;
    ad_string_print(string, unit && amount < 100 ? "%.1f %s" : "%.0f %s", amount, units[unit]);
}

void ad_string_count(ad_string *string, int64_t count, const char *what) {
    ad_string_print(string, "%" PRId64 " %s%s", count, what, count == 1 ? "" : "s");
}

void ad_string_free(ad_string *string) {
    ad_release(string->allocator, string->data, string->room);
    *string = (ad_string){.allocator = string->allocator};
}

/* ---- UTF-8 ----------------------------------------------------------------------------------------------------- */

uint32_t ad_utf8_next(const char **at, const char *end) {
    const unsigned char *c = (const unsigned char *)*at;
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    (*at)++;
    if (c[0] < 0x80) return c[0];
    int more = c[0] >= 0xF0 ? 3 : c[0] >= 0xE0 ? 2 : 1; /* bytes that should follow */
    if (c[0] < 0xC0 || c[0] >= 0xF8 || end - *at < more) return 0xFFFD;
    uint32_t character = c[0] & (0x3Fu >> more);
    for (int i = 1; i <= more; i++) {
        if ((c[i] & 0xC0) != 0x80) return 0xFFFD;
        character = character << 6 | (c[i] & 0x3F);
    }
    if (character < least[more] || character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) return 0xFFFD;
    *at += more;
    return character;
}

/* Unicode's East Asian wide characters and marks that take no room, in coarse runs. */
static const struct {
    uint32_t first, last;
    int width;
} widths[] = {
    {0x0300, 0x036F, 0},   {0x0483, 0x0489, 0},   {0x0591, 0x05BD, 0},   {0x0610, 0x061A, 0},   {0x064B, 0x065F, 0},
    {0x0900, 0x0902, 0},   {0x093C, 0x093C, 0},   {0x0941, 0x0948, 0},   {0x0E31, 0x0E31, 0},   {0x0E34, 0x0E3A, 0},
    {0x0E47, 0x0E4E, 0},   {0x1100, 0x115F, 2},   {0x1AB0, 0x1AFF, 0},   {0x1DC0, 0x1DFF, 0},   {0x200B, 0x200F, 0},
    {0x202A, 0x202E, 0},   {0x2060, 0x2069, 0},   {0x20D0, 0x20FF, 0},   {0x2E80, 0x303E, 2},   {0x3041, 0x4DBF, 2},
    {0x4E00, 0xA4CF, 2},   {0xA960, 0xA97F, 2},   {0xAC00, 0xD7A3, 2},   {0xF900, 0xFAFF, 2},   {0xFE00, 0xFE0F, 0},
    {0xFE20, 0xFE2F, 0},   {0xFE30, 0xFE6F, 2},   {0xFEFF, 0xFEFF, 0},   {0xFF00, 0xFF60, 2},   {0xFFE0, 0xFFE6, 2},
    {0x1F300, 0x1F64F, 2}, {0x1F680, 0x1F6FF, 2}, {0x1F900, 0x1F9FF, 2}, {0x20000, 0x3FFFD, 2}, {0xE0100, 0xE01EF, 0},
};

int ad_utf8_width(uint32_t character) {
    if (character < widths[0].first) return 1;
    for (size_t i = 0; i < sizeof widths / sizeof *widths && character >= widths[i].first; i++)
        if (character <= widths[i].last) return widths[i].width;
    return 1;
}

int ad_utf8_columns(const char *text, size_t length) {
    int columns = 0;
    for (const char *at = text, *end = text + length; at < end;) columns += ad_utf8_width(ad_utf8_next(&at, end));
    return columns;
}

size_t ad_utf8_fit(const char *text, size_t length, int columns) {
    const char *at = text, *end = text + length;
    while (at < end) {
        const char *next = at;
        columns -= ad_utf8_width(ad_utf8_next(&next, end));
        if (columns < 0) break;
        at = next;
    }
    return (size_t)(at - text);
}

bool ad_next_line(const char **at, const char *end, int columns, const char **line, size_t *length) {
    if (*at >= end) return false;
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    *line = *at;
    *length = (size_t)((stop ? stop : end) - *at);
    *at = stop ? stop + 1 : end;
    if (columns <= 0 || ad_utf8_columns(*line, *length) <= columns) return true;
    size_t fits = ad_utf8_fit(*line, *length, columns), blank = fits;
    while (blank > 0 && (*line)[blank] != ' ') blank--;
    *length = blank > 0 ? blank : fits > 0 ? fits : 1;
    *at = *line + *length;
    while (*at < end && **at == ' ') (*at)++;
    return true;
}
