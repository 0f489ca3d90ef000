// What is wrong with a kernel: kind, call, line, core and a text that says how to mend it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace twin {

// Where an instruction stands in the source.
struct Site {
    const char* call = "";
    int line = 0;
};

struct Finding {
    std::string kind;
    std::string call;
    int line;
    std::string core;
    std::string text;
    uint64_t count;
};

class Findings {
 public:
    // Findings of one kind at one site with the same partner are one, whose text is that of the first.
    void add(const char* kind, Site site, const std::string& core, const std::string& text, int partner = 0);
    bool empty() const { return order_.empty(); }
    const std::vector<Finding>& all() const { return order_; }

 private:
    using Key = std::tuple<std::string, std::string, int, int>;
    std::map<Key, size_t> index_;
    std::vector<Finding> order_;
};

std::string text_of(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace twin
