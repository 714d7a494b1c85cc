package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const auditUsage = `peat audit verify [flags] FILE checks an export of an audit trail: that no entry was changed, left out, put in
or moved, and that it is signed up to its end. It needs no gateway; - is the standard input.
It ends with 0 if all is well, 1 if something is wrong, and 2 if it could not tell.

`

// auditCommand runs what there is below peat audit.
func auditCommand(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] != "verify" {
		fmt.Fprint(stderr, auditUsage)
		return couldNotTell(errors.New("audit: say verify and a file"))
	}
	terms := audit.Terms{MaxFindings: maxProblems, Known: map[uint64]audit.Hash{}}
	flags := flag.NewFlagSet("peat audit verify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, auditUsage)
		flags.PrintDefaults()
	}
	flags.Func("key", "public `key` of the gateway, 64 hexadecimal characters; several if it was replaced (default: not checked)", func(s string) error {
		k, err := audit.ParsePublicKey(s)
		terms.Keys = append(terms.Keys, k)
		return err
	})
	flags.Func("org", "`organization` whose trail it must be (default: whichever the export names)", func(s string) (err error) {
		if terms.Org = tenant.OrgID(s); s != string(audit.Gateway) {
			_, err = tenant.ParseOrgID(s)
		}
		return err
	})
	flags.Func("head", "`SEQ:HASH` that is known from an earlier head or export, and must fit; can be given often", func(s string) error {
		seq, hash, err := parseKnown(s)
		terms.Known[seq] = hash
		return err
	})
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return couldNotTell(err)
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return couldNotTell(errors.New("audit verify: name one file"))
	}
	report, err := verifyExport(ctx, flags.Arg(0), stdin, terms)
	if err != nil {
		return couldNotTell(err)
	}
	return printAudit(stdout, report)
}

func parseKnown(s string) (uint64, audit.Hash, error) {
	number, text, _ := strings.Cut(s, ":")
	seq, err := strconv.ParseUint(number, 10, 63)
	if err != nil || seq == 0 {
		return 0, audit.Hash{}, errors.New("must be the number of an entry, a colon and its hash")
	}
	hash, err := audit.ParseHash(text)
	return seq, hash, err
}

func verifyExport(ctx context.Context, name string, stdin io.Reader, terms audit.Terms) (audit.Report, error) {
	if name == "-" {
		return audit.Verify(untilDone{ctx, stdin}, terms)
	}
	f, err := os.Open(name)
	if err != nil {
		return audit.Report{}, err
	}
	defer func() { _ = f.Close() }()
	return audit.Verify(untilDone{ctx, f}, terms)
}

// printAudit says what an export holds, and what is wrong with it.
func printAudit(stdout io.Writer, r audit.Report) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(table, "%s\t%v\n", name, value) }
	row("organization", fmt.Sprintf("%q", r.Org))
	row("entries", fmt.Sprintf("%d, from %d to %d", r.Entries, r.From, r.To))
	if r.Forebears > 0 {
		row("not in it", fmt.Sprintf("entries 1 to %d", r.Forebears))
	}
	if r.Entries > 0 {
		row("from", r.Begins.Format(time.RFC3339))
		row("until", r.Ends.Format(time.RFC3339))
	}
	row("heads", r.Heads)
	row("signed", r.SignedAt.Format(time.RFC3339))
	row("last hash", fmt.Sprintf("%d:%s", r.To, r.Hash))
	trust := "not checked: compare it with the gateway's, or say -key"
	if r.Trusted {
		trust = "known"
	}
	for _, k := range r.Keys {
		row("key", fmt.Sprintf("%s (%s)", k, trust))
	}
	found := 0
	for _, kind := range audit.FindingKinds() {
		row("found: "+string(kind), r.Count[kind])
		found += r.Count[kind]
	}
	if err := table.Flush(); err != nil {
		return couldNotTell(err)
	}
	for _, f := range r.Findings {
		fmt.Fprintln(stdout, f)
	}
	if found > len(r.Findings) {
		fmt.Fprintf(stdout, "… and %d more\n", found-len(r.Findings))
	}
	if found > 0 {
		return codeError{fmt.Errorf("audit verify: %d findings", found), 1}
	}
	return nil
}
