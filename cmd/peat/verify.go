package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// maxProblems is how many problems are shown.
const maxProblems = 20

const verifyUsage = `peat verify [flags] FILE… checks received events, one or a batch in a line of JSON, for gaps, order and
foreign events. Several files are read as one, in the order given; - is the standard input.
It ends with 0 if all is well, 1 if there are problems, and 2 if it could not tell.

`

// codeError is an error that ends the program with a code of its own.
type codeError struct {
	error
	code int
}

// Unwrap gives the error without its code.
func (e codeError) Unwrap() error { return e.error }

// couldNotTell is for every error of verify but a problem in a file.
func couldNotTell(err error) error { return codeError{err, 2} }

// verify checks files of received events.
func verify(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("peat verify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, verifyUsage)
		flags.PrintDefaults()
	}
	terms := completeness.Terms{MaxProblems: maxProblems}
	flags.Func("org", "`organization` that every event belongs to (default: the first event's)", func(s string) (err error) {
		terms.Org, err = tenant.ParseOrgID(s)
		return err
	})
	flags.Func("app", "`formation` that every event belongs to; * is any (default: the first event's)", func(s string) (err error) {
		if terms.App = s; s != delivery.AllFormations {
			_, err = tenant.ParseAppID(s)
		}
		return err
	})
	flags.BoolVar(&terms.FromSeqOne, "from-seq-one", false, "demand that every document begins with its first change")
	flags.BoolVar(&terms.Every, "every", false, "demand that seq makes no jumps: the sink has no filter")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return couldNotTell(err)
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return couldNotTell(errors.New("verify: no file was named"))
	}
	v := completeness.NewVerifier(terms)
	for _, name := range flags.Args() {
		if err := verifyFile(ctx, v, name, stdin); err != nil {
			return couldNotTell(err)
		}
	}
	return printReport(stdout, v.Report())
}

func verifyFile(ctx context.Context, v *completeness.Verifier, name string, stdin io.Reader) error {
	if name == "-" {
		return v.Read(name, untilDone{ctx, stdin})
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return v.Read(name, untilDone{ctx, f})
}

// untilDone ends a long reading when the program is told to end.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

// Read is that of the reader, as long as the context goes on.
func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// printReport says what was seen, and what is wrong with it.
func printReport(stdout io.Writer, r completeness.Report) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(table, "%s\t%v\n", name, value) }
	row("organization", fmt.Sprintf("%q", r.Org))
	row("formation", fmt.Sprintf("%q", r.App))
	row("lines", r.Lines)
	row("documents", r.Documents)
	row("changes", r.Changes)
	row("skipped", r.Skipped)
	row("repeats", r.Repeats)
	row("replayed", r.Replayed)
	row("other events", r.Others)
	found := 0
	for _, kind := range completeness.ProblemKinds() {
		row("problems: "+string(kind), r.Found[kind])
		found += r.Found[kind]
	}
	if err := table.Flush(); err != nil {
		return couldNotTell(err)
	}
	// A document's name is quoted: whoever wrote the file must not write on the terminal.
	for _, p := range r.Problems {
		fmt.Fprintf(stdout, "%s:%d: %s: document %q: %s\n", p.File, p.Line, p.Kind, p.Document, p.Detail)
	}
	if found > len(r.Problems) {
		fmt.Fprintf(stdout, "… and %d more\n", found-len(r.Problems))
	}
	if found > 0 {
		return codeError{fmt.Errorf("verify: %d problems", found), 1}
	}
	return nil
}
