/* The page of HTML dumps, in two parts: the tapes go between them. The build makes them from autodiff/dump/page. */
#ifndef AD_DUMP_PAGE_H
#define AD_DUMP_PAGE_H

#include <stddef.h>

extern const unsigned char ad_page_head[], ad_page_tail[];
extern const size_t ad_page_head_size, ad_page_tail_size;

#endif
