/* Statuses and the messages that go with them. */
#include "autodiff/base/base.h"

#include <stdio.h>
#include <string.h>

static const char *const status_names[AD_STATUS_COUNT] = {
    [AD_OK] = "AD_OK",
    [AD_ERR_OOM] = "AD_ERR_OOM",
    [AD_ERR_NULL] = "AD_ERR_NULL",
    [AD_ERR_HANDLE] = "AD_ERR_HANDLE",
    [AD_ERR_SHAPE] = "AD_ERR_SHAPE",
    [AD_ERR_DTYPE] = "AD_ERR_DTYPE",
    [AD_ERR_INDEX] = "AD_ERR_INDEX",
    [AD_ERR_VALUE] = "AD_ERR_VALUE",
    [AD_ERR_LIMIT] = "AD_ERR_LIMIT",
    [AD_ERR_NOGRAD] = "AD_ERR_NOGRAD",
    [AD_ERR_CHANGED] = "AD_ERR_CHANGED",
    [AD_ERR_OP] = "AD_ERR_OP",
    [AD_ERR_CHECK] = "AD_ERR_CHECK",
    [AD_ERR_IO] = "AD_ERR_IO",
    [AD_ERR_NUMBER] = "AD_ERR_NUMBER",
};

const char *ad_status_name(ad_status status) {
    return (unsigned)status < AD_STATUS_COUNT ? status_names[status] : "unknown status";
}

void ad_text_add_v(char *buffer, size_t size, size_t *length, const char *format, va_list args) {
    if (*length >= size) return;
    int wanted = vsnprintf(buffer + *length, size - *length, format, args);
    if (wanted <= 0) return;
    *length += (size_t)wanted;
    if (*length < size) return;
    *length = size;
    if (size < 4) return;
    /* Cut at a whole UTF-8 character. */
    size_t cut = size - 4;
    while (cut > 0 && ((unsigned char)buffer[cut] & 0xC0) == 0x80) cut--;
    memcpy(buffer + cut, "...", 4);
}

void ad_text_add(char *buffer, size_t size, size_t *length, const char *format, ...) {
    va_list args;
    va_start(args, format);
    ad_text_add_v(buffer, size, length, format, args);
    va_end(args);
}

ad_status ad_error_set_v(ad_error *error, ad_status status, const char *format, va_list args) {
    if (!error) return status;
    size_t length = 0;
    error->status = status;
    error->message[0] = '\0';
    ad_text_add_v(error->message, sizeof error->message, &length, format, args);
    return status;
}

ad_status ad_error_set(ad_error *error, ad_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    ad_error_set_v(error, status, format, args);
    va_end(args);
    return status;
}
