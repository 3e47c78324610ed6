// gnuplot's point types, which families.h speaks of, drawn by ourselves.
#include "eval/html/marker.h"

struct shape {
    int type;     // gnuplot's, filled
    bool strokes; // lines without an inside
    const char *path;
};

static const struct shape *shape_of(const kv_plot_style *style) {
    static const struct shape shapes[] = {
        {7, false, "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0z"},
        {5, false, "M-5.5,-5.5h11v11h-11z"},
        {9, false, "M0,-7.4L6.8,4.8H-6.8z"},
        {13, false, "M0,-7.8L6.8,0L0,7.8L-6.8,0z"},
        {11, false, "M0,7.4L6.8,-4.8H-6.8z"},
        {15, false, "M0,-7L6.7,-2.2L4.1,5.7H-4.1L-6.7,-2.2z"},
        {2, true, "M-4.6,-4.6L4.6,4.6M-4.6,4.6L4.6,-4.6"},
        {1, true, "M-6,0H6M0,-6V6"},
        {3, true, "M-6,0H6M0,-6V6M-4.2,-4.2L4.2,4.2M-4.2,4.2L4.2,-4.2"},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].type == style->filled) return &shapes[i];
    return &shapes[0];
}

void kv_html_marker(kv_html *html, const kv_plot_style *style, bool hollow) {
    const struct shape *shape = shape_of(style);
    if (hollow) {
        kv_html_put(html, "<path d=\"%s\" fill=\"none\" stroke=\"%s\"/>", shape->path, style->colour);
        return;
    }
    kv_html_put(html, "<path class=\"halo%s\" d=\"%s\"/>", shape->strokes ? " strokes" : "", shape->path);
    if (shape->strokes)
        kv_html_put(html, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2.2\"/>", shape->path,
                    style->colour);
    else
        kv_html_put(html, "<path d=\"%s\" fill=\"%s\"/>", shape->path, style->colour);
    if (style->dotted)
        kv_html_put(
            html,
            "<path class=\"dot\" d=\"%s\" fill=\"#FFFFFF\" stroke=\"#FFFFFF\" transform=\"scale(.34)\"/>",
            shape->path);
}

void kv_html_marker_sign(kv_html *html, const kv_plot_style *style) {
    kv_html_put(html, "<svg class=\"sign\" viewBox=\"-9 -9 18 18\" aria-hidden=\"true\">");
    kv_html_marker(html, style, false);
    kv_html_put(html, "</svg>");
}
