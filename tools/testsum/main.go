// Testsum reads what "go test -json" prints and tells a person the outcome:
// a line per package, the output of what failed, why tests were skipped, and at
// the end one plain line
//
//	N passed, N failed, N skipped
//
// It reads the files it is given, or its standard input, and exits with 1 if
// anything failed. With -save it also keeps what it read in a file; with -total
// it prints again what failed, in short, and the last line: who sees but the end of a
// long log learns what to look for.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	save := flag.String("save", "", "keep what was read in this `file`")
	total := flag.Bool("total", false, "print only what failed, in short, and the last line")
	flag.Parse()
	s, err := run(*save, *total, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	if s.failed > 0 {
		os.Exit(1)
	}
}

func run(save string, total bool, files []string) (*summary, error) {
	in := []io.Reader{os.Stdin}
	if len(files) > 0 {
		in = nil
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = append(in, f)
		}
	}
	var out io.Writer = os.Stdout
	if total {
		out = io.Discard
	}
	s := newSummary(out)
	for _, r := range in {
		if save != "" {
			f, err := os.Create(save)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			r = io.TeeReader(r, f)
		}
		if err := s.read(r); err != nil {
			return nil, err
		}
	}
	s.close()
	if total {
		for _, t := range s.broken {
			fmt.Printf("FAIL  %s %s\n%s", t.pkg, t.name, indent(last(s.output[t])))
		}
	}
	fmt.Println(s.line())
	return s, nil
}

// record is one line of test2json, and of "go build -json" within it.
type record struct {
	Time        time.Time
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

type test struct{ pkg, name string }

type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[test][]string
	open                    map[test]bool   // begun and not ended
	fails                   map[string]bool // packages with a test that failed
	broken                  []test          // what is counted as failed; a package has no name
	skips                   map[string][]string
}

func newSummary(out io.Writer) *summary {
	return &summary{
		out:    out,
		output: map[test][]string{},
		open:   map[test]bool{},
		fails:  map[string]bool{},
		skips:  map[string][]string{},
	}
}

func (s *summary) read(r io.Reader) error {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadBytes('\n')
		if len(line) > 0 {
			var rec record
			if json.Unmarshal(line, &rec) == nil && rec.Action != "" {
				s.add(rec)
			} else {
				s.out.Write(line) // go's own complaints are not JSON
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(r record) {
	t := test{cmp.Or(r.Package, r.ImportPath), r.Test}
	switch r.Action {
	case "run":
		s.open[t] = true
	case "output", "build-output":
		s.output[t] = append(s.output[t], r.Output)
	case "pass":
		s.end(t)
		if t.name != "" {
			s.passed++
		} else {
			fmt.Fprintf(s.out, "ok    %s  %.1fs\n", t.pkg, r.Elapsed)
		}
		delete(s.output, t)
	case "skip":
		s.end(t)
		if t.name != "" {
			s.skipped++
			s.skip(t)
		}
		delete(s.output, t)
	case "fail":
		s.end(t)
		if t.name != "" {
			s.fail(t)
			fmt.Fprintf(s.out, "FAIL  %s %s  %.1fs\n%s", t.pkg, t.name, r.Elapsed, indent(s.output[t]))
			break
		}
		s.endPackage(t, r.FailedBuild, r.Elapsed)
	}
}

func (s *summary) fail(t test) {
	s.failed++
	s.fails[t.pkg] = true
	s.broken = append(s.broken, t)
}

// end closes a test, and with a package what the package left open.
func (s *summary) end(t test) { delete(s.open, t) }

// endPackage reports a package that failed. One that failed without any test of
// it failing (it did not build, or died) counts as one failure.
func (s *summary) endPackage(t test, build string, elapsed float64) {
	for open := range s.open {
		if open.pkg == t.pkg {
			delete(s.open, open)
			s.fail(open)
			fmt.Fprintf(s.out, "FAIL  %s %s  never ended\n%s", open.pkg, open.name, indent(s.output[open]))
		}
	}
	if !s.fails[t.pkg] {
		s.fail(test{pkg: t.pkg})
	}
	fmt.Fprintf(s.out, "FAIL  %s  %.1fs\n%s", t.pkg, elapsed, indent(append(s.output[test{pkg: build}], s.output[t]...)))
}

func (s *summary) skip(t test) {
	var why []string
	for _, line := range s.output[t] {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		why = append(why, line)
	}
	reason := cmp.Or(strings.Join(why, " "), "no reason given")
	s.skips[reason] = append(s.skips[reason], t.pkg+" "+t.name)
}

// close tells what was skipped and what the input ended in the middle of.
func (s *summary) close() {
	for t := range s.open {
		s.fail(t)
		fmt.Fprintf(s.out, "FAIL  %s %s  never ended\n%s", t.pkg, t.name, indent(s.output[t]))
	}
	clear(s.open)
	for _, reason := range slices.Sorted(maps.Keys(s.skips)) {
		fmt.Fprintf(s.out, "SKIP  %s\n", reason)
		for _, name := range s.skips[reason] {
			fmt.Fprintf(s.out, "      %s\n", name)
		}
	}
}

// last is the end of a test's output, which mostly says why.
func last(lines []string) []string { return lines[max(0, len(lines)-lastLines):] }

const lastLines = 12

func (s *summary) line() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", s.passed, s.failed, s.skipped)
}

func indent(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		if strings.HasPrefix(line, "=== ") {
			continue
		}
		b.WriteString("      ")
		b.WriteString(line)
		if !strings.HasSuffix(line, "\n") {
			b.WriteByte('\n')
		}
	}
	return b.String()
}
