/* A profile as trace events in JSON ("Trace Event Format", Google 2016): what Perfetto and Chrome show. */
#include <adtape/profile.h>

#include <string.h>

/* Text in JSON; control characters become blanks. */
static void put_text(const char *text, FILE *stream) {
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', stream);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, stream);
    }
}

static void put_member(const char *before, const char *text, FILE *stream) {
    fputs(before, stream);
    put_text(text, stream);
    fputc('"', stream);
}

static void put_event(const ad_profile_event *e, bool is_first, FILE *stream) {
    static const char *const kinds[] = {"forward", "backward", "pass", "scope"};
    put_member(is_first ? "\n{\"name\":\"" : ",\n{\"name\":\"", e->name, stream);
    fprintf(stream, ",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f,\"args\":{",
            kinds[e->kind], (double)e->start / 1e3, (double)e->duration / 1e3);
    put_member("\"scope\":\"", e->scope, stream);
    if (e->node >= 0) fprintf(stream, ",\"node\":%lld", (long long)e->node);
    if (e->bytes) fprintf(stream, ",\"bytes\":%llu", (unsigned long long)e->bytes);
    if (e->where) put_member(",\"where\":\"", e->where, stream);
    fputs("}}", stream);
}

ad_status ad_profile_trace(const ad_profile *profile, FILE *stream) {
    if (!profile || !stream) return AD_ERR_NULL;
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", stream);
    for (int64_t i = 0; i < ad_profile_events(profile); i++) {
        ad_profile_event event;
        if (ad_profile_event_at(profile, i, &event) == AD_OK) put_event(&event, i == 0, stream);
    }
    fputs("\n]}\n", stream);
    return fflush(stream) || ferror(stream) ? AD_ERR_IO : AD_OK;
}
