/* The dump as a page: one file with everything in it. The page is in autodiff/dump/page; what it shows is the dump in
 * JSON, which is safe inside of it whatever the names on the tape are. */
#include "autodiff/dump/dump.h"
#include "autodiff/dump/page.h"

static void put(ad_writer *writer, const unsigned char *text, size_t size) {
    ad_writer_put(writer, (const char *)text, size);
}

void ad_put_page_head(ad_writer *writer) { put(writer, ad_page_head, ad_page_head_size); }

void ad_put_page_tape(ad_dump *dump, const char *id) {
    ad_writer_print(&dump->writer, "<script type=\"application/json\" id=\"%s\">", id);
    ad_dump_json(dump);
    ad_writer_print(&dump->writer, "</script>");
    ad_writer_line(&dump->writer);
}

void ad_put_page_tail(ad_writer *writer) { put(writer, ad_page_tail, ad_page_tail_size); }

void ad_dump_html(ad_dump *dump) {
    ad_put_page_head(&dump->writer);
    ad_put_page_tape(dump, "tape");
    ad_put_page_tail(&dump->writer);
}
