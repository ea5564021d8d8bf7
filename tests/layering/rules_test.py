#!/usr/bin/env python3
"""Each check must find a small bad sample and leave a good one alone."""

import json
import tempfile
import unittest
from pathlib import Path

import build_rules
import coroutine_rules
import include_rules
import seam_rules
from source_text import blanked


class Tree:
    """A small repository in a temporary folder."""

    def __init__(self, test, contents):
        folder = tempfile.TemporaryDirectory()
        test.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for path, text in contents.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)

    def compile_commands(self, sources):
        (self.root / "build").mkdir(exist_ok=True)
        entries = [{"directory": str(self.root), "file": source, "command": ""} for source in sources]
        (self.root / "build/compile_commands.json").write_text(json.dumps(entries))
        return self.root / "build"


class Blanking(unittest.TestCase):
    def test_comments_and_literals_go_and_lines_stay(self):
        text = 'int a; // co_await\nauto s = "co_await // x"; /* co_await\n*/ char c = \'"\'; auto n = 1\'000; int b;'
        code = blanked(text)
        self.assertEqual(len(code), len(text))
        self.assertEqual(code.count("\n"), text.count("\n"))
        self.assertNotIn("co_await", code)
        self.assertIn("int b;", code)

    def test_raw_strings_go(self):
        self.assertNotIn("co_await", blanked('auto s = R"sql(" co_await ")sql"; int b;'))


class Includes(unittest.TestCase):
    def findings(self, contents):
        return [str(finding) for finding in include_rules.check(Tree(self, contents).root)]

    def assert_found(self, contents, part):
        found = self.findings(contents)
        self.assertTrue(any(part in finding for finding in found), found)

    def test_downward_is_fine(self):
        self.assertEqual([], self.findings({
            "common/base/result.h": "#include <expected>\n",
            "common/runtime/task.h": '#include "common/base/result.h"\n',
            "common/proto/meta_types.h": '#include "common/base/result.h"\n',
            "common/kv/kv_store.h": '#include "common/base/result.h"\n',
            "master/namespace/machine.h": '#include "common/proto/meta_types.h"\n#include "common/kv/kv_store.h"\n',
            "master/namespace/ops/rename.cc": '#include "master/namespace/machine.h"\n',
            "master/main.cc": '#include "master/service/meta_service.h"\n',
            "tests/unit/fs/client/x_test.cc": '#include "fs/client/x.h"\n#include <boost/asio/post.hpp>\n',
        }))

    def test_upward_is_found(self):
        self.assert_found({"common/base/a.h": '#include "common/runtime/task.h"\n'}, "common/base/a.h:1: common/base may")

    def test_a_sibling_is_found(self):
        self.assert_found({"common/kv/a.h": '#include "common/rpc/client.h"\n'}, "common/kv may not include")

    def test_programs_meet_only_in_common(self):
        self.assert_found({"fs/client/a.cc": '#include "master/namespace/inode.h"\n'}, "fs/client may not include")
        self.assert_found({"master/service/a.cc": '#include "chunkserver/store/chunk_store.h"\n'}, "may not include")
        self.assert_found({"common/rpc/a.cc": '#include "tests/support/a.h"\n'}, "common/rpc may not include")

    def test_a_library_behind_a_folder_is_found_elsewhere(self):
        self.assert_found({"master/service/a.cc": "#include <leveldb/db.h>\n"}, "belongs behind common/kv")

    def test_a_path_that_is_not_from_the_root_is_found(self):
        self.assert_found({"common/kv/a.cc": '#include "b.h"\n'}, "from the root")

    def test_a_header_beside_a_test_needs_no_path(self):
        self.assertEqual([], self.findings({"tests/sim/a_test.cc": '#include "b.h"\n', "tests/sim/b.h": "\n"}))
        self.assert_found({"tests/sim/a_test.cc": '#include "c.h"\n'}, "from the root")

    def test_an_unknown_folder_is_found(self):
        self.assert_found({"common/misc/a.cc": "\n"}, "not in the table")

    def test_pure_code_that_reaches_asio_through_a_header_is_found(self):
        self.assert_found({
            "common/kv/kv_store.h": '#include "common/base/a.h"\n',
            "common/base/a.h": "#include <boost/asio/io_context.hpp>\n",
            "master/namespace/machine.h": '#include "common/kv/kv_store.h"\n',
        }, "pure code reaches common/kv/kv_store.h -> common/base/a.h -> boost/asio/io_context.hpp")

    def test_pure_code_that_reads_a_clock_is_found(self):
        self.assert_found({"chunkserver/store/extent_map.cc": "#include <chrono>\n"}, "pure code reaches chrono")

    def test_plain_types_that_reach_capnp_are_found(self):
        self.assert_found({"common/proto/meta_types.h": '#include "common/proto/meta.capnp.h"\n'}, "pure code reaches")


class Build(unittest.TestCase):
    SOURCES = {"common/base/a.cc": "", "common/proto/t.capnp": "", "bench/micro/b.cc": "",
               "bench/micro/CMakeLists.txt": "cairn_benchmark(b SOURCES b.cc)",
               "tests/system/c_test.py": "", "tests/system/CMakeLists.txt": "SCRIPT c_test.py"}

    def test_a_complete_build_is_fine(self):
        tree = Tree(self, self.SOURCES)
        build = tree.compile_commands(["common/base/a.cc", "build/generated/common/proto/t.capnp.c++"])
        self.assertEqual([], build_rules.check(tree.root, build))

    def test_files_left_out_are_found(self):
        tree = Tree(self, {**self.SOURCES, "bench/micro/CMakeLists.txt": "", "tests/system/CMakeLists.txt": ""})
        found = {finding.path for finding in build_rules.check(tree.root, tree.compile_commands([]))}
        self.assertEqual(found, {"common/base/a.cc", "common/proto/t.capnp", "bench/micro/b.cc", "tests/system/c_test.py"})


class Coroutines(unittest.TestCase):
    GOOD = [
        "co_await f();",
        "auto y = co_await f();",
        "const Result<std::map<int, T>> y = co_await disk_.sync(file_, a && b, c ? 1 : 2);",
        "auto [a, b] = co_await f(x);",
        "auto&& y = co_await std::move(task);",
        "y = co_await f();",
        "this->state_.y = co_await f();",
        "slots[i] = co_await f();",
        "*out = co_await f();",
        "std::ignore = co_await f();",
        "(void)co_await f();",
        "if (x && y) co_await f();",
        "if (x) { y = co_await f(); } else z = co_await g();",
        "for (int i = 0; i < 3; ++i) co_await f();",
        "while (!stopped_) { co_await f(); }",
        "switch (x) { case A: co_await f(); break; case B::kC: { co_await g(); } default: co_await h(); }",
        "tasks_.spawn([]() -> Task<void> { co_await f(); }());",
        "auto y = co_await client->call<Read>(std::move(r));",
        "[[maybe_unused]] auto y = co_await f();",
        "// x ? co_await f() : 0\n",
    ]
    BAD = [
        "auto y = x ? co_await f() : 0;",
        "auto y = co_await f() ? 1 : 0;",
        "auto y = a && co_await f();",
        "auto y = co_await f() || b;",
        "bool ok = co_await f() == 3;",
        "if (co_await f()) g();",
        "if (auto y = co_await f(); y) g();",
        "while (co_await f()) g();",
        "for (auto x : co_await f()) g();",
        "g(co_await f());",
        "auto y = (co_await f()).value();",
        "T y{co_await f()};",
        "T y = {co_await f()};",
        "T y = {.a = 1, .b = co_await f()};",
        "T y(co_await f());",
        "CHECK(co_await f());",
        "EXPECT_EQ(run([]() -> Task<int> { co_await f(); }()), 1);",
        "auto y = ({ co_await f(); });",
        "co_return co_await f();",
        "return co_await f();",
        "y += co_await f();",
        "a = 1, b = co_await f();",
        "auto y = 1 + co_await f();",
        "auto y = !co_await f();",
        "auto y = co_await f(), z = 1;",
        "auto y = *co_await f() + 1;",
        "x[co_await f()] = 1;",
    ]

    def found(self, body):
        return coroutine_rules.check_text("a.cc", "Task<void> g() {\n  " + body + "\n  co_return;\n}\n")

    def test_statements_and_initialisers_are_fine(self):
        for body in self.GOOD:
            with self.subTest(body):
                self.assertEqual([], [str(finding) for finding in self.found(body)])

    def test_everything_else_is_found(self):
        for body in self.BAD:
            with self.subTest(body):
                self.assertEqual(1, len(self.found(body)), [str(finding) for finding in self.found(body)])

    def test_a_statement_after_a_label_or_a_block_is_fine(self):
        self.assertEqual([], self.found("{ f(); } co_await g();"))

    def test_a_coroutine_lambda_with_captures_is_found(self):
        for lambda_text in ("[this]() -> Task<void> { co_await f(); }", "[&] { co_return; }",
                            "[x = 1](int a) mutable -> Task<int> { if (a) { co_return x; } }",
                            "[=]<class T>(T a) -> Task<T> { co_await f(); }"):
            with self.subTest(lambda_text):
                found = self.found(f"auto run = {lambda_text};")
                self.assertEqual(1, len(found), found)
                self.assertIn("captures", found[0].message)

    def test_lambdas_that_are_no_coroutines_are_fine(self):
        for body in ("auto run = [this] { return f(); };",
                     "auto run = [](Node* node) -> Task<void> { co_await node->f(); };",
                     "auto run = [this] { return [](Node* n) -> Task<void> { co_await n->f(); }(this); };",
                     "x[i] = co_await f();",
                     "int a[3]{}; co_await f();"):
            with self.subTest(body):
                self.assertEqual([], [str(finding) for finding in self.found(body)])


class Seams(unittest.TestCase):
    BAD = [
        "asio::steady_timer t(io);",
        "auto now = std::chrono::steady_clock::now();",
        "auto now = system_clock::now();",
        "clock_gettime(CLOCK_BOOTTIME, &ts);",
        "std::thread t(f);",
        "std::vector<std::jthread> ts;",
        "std::random_device r;",
        "std::this_thread::sleep_for(1s);",
        "usleep(3);",
        "::sleep(1);",
    ]
    GOOD = ["std::this_thread::get_id();", "std::thread::id owner_;", "// std::thread\n", 'log("random_device");',
            "co_await group_.sleep_for(hold);", "co_await clock_.sleep(ms);", "co_await clock->sleep(5);"]

    def test_raw_ones_are_found(self):
        for text in self.BAD:
            with self.subTest(text):
                self.assertEqual(1, len(seam_rules.check_text("master/service/a.cc", text)))
                self.assertEqual(1, len(seam_rules.check_text("tests/unit/master/service/a_test.cc", text)))

    def test_the_runtime_may(self):
        for text in self.BAD:
            with self.subTest(text):
                self.assertEqual([], seam_rules.check_text("common/runtime/a.cc", text))

    def test_tests_of_common_may_use_threads_and_nothing_else(self):
        path = "tests/unit/common/base/a_test.cc"
        self.assertEqual([], seam_rules.check_text(path, "std::thread t(f);"))
        self.assertEqual(1, len(seam_rules.check_text(path, "std::this_thread::sleep_for(1s);")))

    def test_what_looks_alike_is_fine(self):
        for text in self.GOOD:
            with self.subTest(text):
                self.assertEqual([], [str(f) for f in seam_rules.check_text("master/service/a.cc", text)])

    def test_marks_of_unfinished_work_are_found(self):
        mark = "TO" + "DO"
        tree = Tree(self, {"fs/cli/a.cc": f"// {mark}: later\n", "fs/cli/b.cc": "// all done\n"})
        self.assertEqual(["fs/cli/a.cc"], [finding.path for finding in seam_rules.check_marks(tree.root)])

    def test_long_files_are_warned_about(self):
        tree = Tree(self, {"fs/cli/a.cc": "\n" * 601, "fs/cli/b.cc": "\n" * 600})
        self.assertEqual(["fs/cli/a.cc"], [warning.path for warning in seam_rules.long_files(tree.root)])


if __name__ == "__main__":
    unittest.main()
