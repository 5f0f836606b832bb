// ptx_tests [--planted] [--list] [NAME...]: runs the cases, or those named; one line each. A planted case is expected
// to be noticed: its line says how. Exits with 1 if a test fails.
#include "cases.h"

Cases& cases() {
    static Cases all;
    return all;
}

int main(int count, char** arguments) {
    bool planted = false, list = false;
    std::vector<std::string> names;
    for (int i = 1; i < count; ++i) {
        const std::string s = arguments[i];
        if (s == "--planted") planted = true;
        else if (s == "--list") list = true;
        else names.push_back(s);
    }
    const auto& all = planted ? cases().planted : cases().tests;
    if (names.empty())
        for (const auto& [name, run] : all) names.push_back(name);
    int failed = 0;
    for (const std::string& name : names) {
        const auto found = all.find(name);
        std::string result = "ok", why;
        if (list) {
            std::printf("%s\n", name.c_str());
            continue;
        }
        try {
            if (found == all.end()) throw std::runtime_error("no such case");
            found->second();
        } catch (const Mismatch& e) { result = "wrong", why = e.what(); } catch (const std::exception& e) {
            result = "error", why = e.what();
        }
        for (char& c : why)
            if (c == '\n') c = ' ';
        failed += result != "ok";
        std::printf("%s %s%s%s\n", result.c_str(), name.c_str(), why.empty() ? "" : ": ", why.c_str());
        std::fflush(stdout);
    }
    return failed && !planted ? 1 : 0;
}
