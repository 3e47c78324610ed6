// The skeleton: what comes after what. Style and script lie beside this file and become part of the program.
#include "eval/html/page.h"

#include "data/file/whole_file.h"
#include "eval/html/about.h"
#include "eval/html/answers.h"
#include "eval/html/curve.h"
#include "eval/html/maps.h"
#include "eval/html/tables.h"
#include "data/file/embedded.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

extern const kv_embedded kv_html_style[], kv_html_script[]; // page.css, page.js, from the build

// ---- The top -------------------------------------------------------------------------------------------

static void put_title(kv_html *html, const kv_results *r) {
    kv_html_format(html, "%s", r->n_tasks ? "" : "Time to the first token");
    for (int64_t t = 0; t < r->n_tasks && t < 4; t++)
        kv_html_format(html, "%s%s, %s", t ? " · " : "", r->tasks[t].name, r->tasks[t].split);
    if (r->n_tasks > 4) kv_html_format(html, " and %lld more", (long long)r->n_tasks - 4);
}

static void put_head(kv_html *html, const kv_results *r) {
    kv_html_put(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta name=\"referrer\" content=\"no-referrer\">\n"
        // Should anything ever ask for a network, the browser says no.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n<title>KV prediction: ");
    put_title(html, r);
    kv_html_put(html, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", kv_html_style[0].text);
}

static void put_header(kv_html *html, const kv_results *r, const kv_html_page *page) {
    kv_html_put(html, "<header>\n<h1>");
    put_title(html, r);
    kv_html_put(html, "</h1>\n<p class=\"lead\">");
    kv_html_format(html, "%lld system%s", (long long)r->n_systems, r->n_systems == 1 ? "" : "s");
    for (int64_t s = 0, n = 0; s < r->n_systems; s++)
        if (r->systems[s].base == s)
            kv_html_format(html, "%s%s", n++ ? ", " : " against ", r->systems[s].name);
    for (int i = 0; i < page->n_sources; i++)
        kv_html_format(html, "%s%s", i ? ", " : ". From ", page->sources[i]);
    kv_html_put(html, "</p>\n</header>\n");
}

// ---- What there is -------------------------------------------------------------------------------------

static bool have_grid(const kv_results *r) {
    for (int64_t t = 0; t < r->n_tasks; t++)
        if (r->tasks[t].grid.lengths) return true;
    return false;
}

static void put_links(kv_html *html, const kv_results *r) {
    const struct {
        const char *id, *text;
        bool there;
    } links[] = {{"curve", "Curve", r->n_tasks > 0},
                 {"tables", "Tables", true},
                 {"budgets", "Budgets", r->n_budgets > 0 && r->n_tasks > 0},
                 {"errors", "Error maps", r->analysis.corpus != NULL},
                 {"grid", "Length and depth", have_grid(r)},
                 {"answers", "Answers", r->n_tasks > 0},
                 {"about", "How it was made", true}};
    kv_html_put(html, "<nav aria-label=\"parts of this page\"><ul>");
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (links[i].there) kv_html_put(html, "<li><a href=\"#%s\">%s</a></li>", links[i].id, links[i].text);
    kv_html_put(html, "</ul></nav>\n");
}

static void put_tables(kv_html *html, const kv_results *r, const kv_html_page *page) {
    static const char *const elsewhere[] = {"budgets", "grid", "made_by", NULL};
    kv_html_put(html, "<section id=\"tables\"><h2>Figures</h2>\n");
    kv_html_tables_other(html, page->tables, r, elsewhere);
    kv_html_put(html, "</section>\n");
    if (r->n_budgets == 0 || r->n_tasks == 0) return;
    kv_html_put(html, "<section id=\"budgets\"><h2>Within a budget</h2>\n");
    kv_html_tables_named(html, page->tables, r, "budgets");
    kv_html_put(html, "</section>\n");
}

static kv_status put_all(kv_html *html, const kv_results *r, const kv_html_page *page, kv_error *err) {
    kv_status status = KV_OK;
    put_head(html, r);
    put_header(html, r, page);
    put_links(html, r);
    kv_html_put(html, "<main>\n");
    if (r->n_tasks > 0) status = kv_html_curve(html, r, &page->curve, err);
    put_tables(html, r, page);
    kv_html_error_maps(html, r);
    if (status == KV_OK) status = kv_html_grid_maps(html, r, page->tables, err);
    if (status == KV_OK) status = kv_html_answers(html, r, page->answers, err);
    kv_html_about(html, r);
    kv_html_put(html, "</main>\n<script>\n%s</script>\n</body>\n</html>\n", kv_html_script[0].text);
    return status;
}

kv_status kv_html_write(const kv_results *results, const kv_html_page *page, const char *path,
                        kv_error *err) {
    kv_whole_file file;
    kv_status status = kv_whole_file_begin(&file, path, err);
    if (status != KV_OK) return status;
    kv_html html = {.out = fopen(file.path, "w")};
    if (!html.out) status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    if (status == KV_OK) status = put_all(&html, results, page, err);
    if (status == KV_OK) status = kv_html_check(&html, path, err);
    if (html.out && fclose(html.out) != 0 && status == KV_OK)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return kv_whole_file_end(&file, status, err);
}
