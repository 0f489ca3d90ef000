#include "findings.h"

#include <cstdarg>
#include <cstdio>

namespace twin {

void Findings::add(const char* kind, Site site, const std::string& core, const std::string& text, int partner) {
    Key key{kind, site.call, site.line, partner};
    auto [place, fresh] = index_.try_emplace(key, order_.size());
    if (fresh) {
        order_.push_back({kind, site.call, site.line, core, text, 1});
    } else {
        ++order_[place->second].count;
    }
}

std::string text_of(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char buffer[2048];
    std::vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    return buffer;
}

}  // namespace twin
