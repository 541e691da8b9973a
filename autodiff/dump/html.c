/* The dump as a page: one file with everything in it. The page is in autodiff/dump/page; what it shows is the dump in
 * JSON, which is safe inside of it whatever the names on the tape are. */
#include "autodiff/dump/dump.h"
#include "autodiff/dump/page.h"

static void put(ad_dump *dump, const unsigned char *text, size_t size) {
    ad_writer_put(&dump->writer, (const char *)text, size);
}

void ad_dump_html(ad_dump *dump) {
    put(dump, ad_page_head, ad_page_head_size);
    ad_writer_print(&dump->writer, "<script type=\"application/json\" id=\"tape\">");
    ad_dump_json(dump);
    ad_writer_print(&dump->writer, "</script>");
    ad_writer_line(&dump->writer);
    put(dump, ad_page_tail, ad_page_tail_size);
}
