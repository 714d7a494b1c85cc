package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/oklog/ulid/v2"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const keysUsage = `peat keys COMMAND [flags] looks after what is sealed in the database. It takes the settings that the gateway takes.

  status   count what is sealed with which key; opens nothing
  verify   open everything, and tell what does not open
  rewrap   seal anew what is not sealed with today's key; the gateway may go on meanwhile
  import   make formations from genesis records of peat-gateway 0.1

It ends with 0 if all is well, 1 if something is left or does not open, and 2 if it could not tell or was broken off.
`

// operator is whom the audit trail names: who may run this holds the keys and the
// database already.
const operator = "operator"

// keysCommand is one command, with what all of them have.
type keysCommand struct {
	flags  *flag.FlagSet
	json   *bool
	stdout io.Writer
	stderr io.Writer

	host    *gateway.Host
	keys    *keyring.Keyring
	records keyring.Records
}

// keys looks after what is sealed.
func keys(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	commands := map[string]func(context.Context, *keysCommand, []string) error{
		"status": keysStatus, "verify": keysVerify, "rewrap": keysRewrap, "import": keysImport,
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		_, err := io.WriteString(stdout, keysUsage)
		return err
	}
	do, ok := commands[args[0]]
	if !ok {
		return couldNotTell(fmt.Errorf("keys: there is no command %q\n\n%s", args[0], keysUsage))
	}
	c := &keysCommand{flags: flag.NewFlagSet("peat keys "+args[0], flag.ContinueOnError), stdout: stdout, stderr: stderr}
	c.flags.SetOutput(stderr)
	c.json = c.flags.Bool("json", false, "answer in JSON")
	err := do(ctx, c, args[1:])
	if c.host != nil {
		err = errors.Join(err, c.host.Close())
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if _, coded := errors.AsType[codeError](err); err != nil && !coded {
		return couldNotTell(err)
	}
	return err
}

// scope is the flag for one organization.
func (c *keysCommand) scope() *tenant.OrgID {
	var org tenant.OrgID
	c.flags.Func("org", "only this `organization` (default: all)", func(s string) (err error) {
		org, err = tenant.ParseOrgID(s)
		return err
	})
	return &org
}

// parse reads the flags; rest tells how many arguments may follow them.
func (c *keysCommand) parse(args []string, rest int) error {
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	if c.flags.NArg() > rest {
		return fmt.Errorf("keys: what is %q?", c.flags.Arg(rest))
	}
	return nil
}

// open opens store and keys. No data key is kept: what is asked here is asked of
// the keys as they are now.
func (c *keysCommand) open(ctx context.Context) error {
	host, err := gateway.NewHost(env.New(os.LookupEnv), c.stderr)
	if err != nil {
		return err
	}
	host.Settings.Keys.CacheFor = 0
	c.host = host
	st, err := host.Store(ctx)
	if err != nil {
		return err
	}
	c.records = st.Records(operator, time.Now)
	c.keys, err = host.Keys(ctx)
	return err
}

func (c *keysCommand) printJSON(v any) error {
	out := json.NewEncoder(c.stdout)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

func newID() string { return ulid.Make().String() }

func keysStatus(ctx context.Context, c *keysCommand, args []string) error {
	org := c.scope()
	if err := c.parse(args, 0); err != nil {
		return err
	}
	if err := c.open(ctx); err != nil {
		return err
	}
	holdings, err := c.keys.Status(ctx, c.records, *org)
	if err != nil {
		return err
	}
	left := 0
	for _, h := range holdings {
		if !h.Current {
			left += h.Count
		}
	}
	if *c.json {
		err = c.printJSON(struct {
			Items []keyring.Holding `json:"items"`
			Left  int               `json:"left"`
		}{append([]keyring.Holding{}, holdings...), left})
	} else {
		err = printHoldings(c.stdout, holdings, left)
	}
	if err == nil && left > 0 {
		err = codeError{fmt.Errorf("keys: %d records are not sealed with today's key", left), 1}
	}
	return err
}

func printHoldings(w io.Writer, holdings []keyring.Holding, left int) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ORGANIZATION\tKIND\tKEY\tVERSION\tRECORDS\t")
	for _, h := range holdings {
		key, note := h.KeyID, ""
		if key == "" {
			key = "-"
		}
		if !h.Current {
			note = "not today's"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%s\n", h.Org, h.Kind, key, h.Version, h.Count, note)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d records are not sealed with today's key\n", left)
	return err
}

func keysVerify(ctx context.Context, c *keysCommand, args []string) error {
	org := c.scope()
	if err := c.parse(args, 0); err != nil {
		return err
	}
	if err := c.open(ctx); err != nil {
		return err
	}
	report, err := c.keys.Verify(ctx, c.records, *org)
	if err != nil {
		return err
	}
	if *c.json {
		err = c.printJSON(report)
	} else {
		printFailures(c.stdout, report.Failures, report.Failed)
		_, err = fmt.Fprintf(c.stdout, "%d records open, %d do not\n", report.Opened, report.Failed)
	}
	if err == nil && report.Failed > 0 {
		err = codeError{fmt.Errorf("keys: %d records do not open", report.Failed), 1}
	}
	return err
}

// printFailures names what failed. Names from the database are quoted: whoever wrote
// them must not write on the terminal.
func printFailures(w io.Writer, failures []keyring.Failure, all int) {
	for _, f := range failures {
		where := f.Org
		if f.App != "" {
			where += "/" + f.App
		}
		if f.ID != "" {
			where += " " + f.ID
		}
		fmt.Fprintf(w, "%q %s: %s\n", where, f.Kind, f.Reason)
	}
	if all > len(failures) {
		fmt.Fprintf(w, "… and %d more\n", all-len(failures))
	}
}

func keysRewrap(ctx context.Context, c *keysCommand, args []string) error {
	org := c.scope()
	w := &keyring.Rewrap{NewID: newID, Now: time.Now}
	c.flags.BoolVar(&w.DryRun, "dry-run", false, "open what would be sealed anew, and write nothing")
	c.flags.BoolVar(&w.Restart, "restart", false, "begin again instead of going on where a run was broken off")
	if err := c.parse(args, 0); err != nil {
		return err
	}
	if err := c.open(ctx); err != nil {
		return err
	}
	w.Keys, w.Records, w.Scope = c.keys, c.records, *org
	report, broken := w.Run(ctx)
	var err error
	if *c.json {
		if report.Failures == nil {
			report.Failures = []keyring.Failure{}
		}
		err = c.printJSON(report)
	} else {
		err = printRewrap(c.stdout, report)
	}
	switch {
	case broken != nil:
		return errors.Join(fmt.Errorf("keys: broken off; the next run goes on from here: %w", broken), err)
	case err != nil:
		return err
	case report.Counts.Failed > 0 || report.Left > 0 && !report.DryRun:
		return codeError{fmt.Errorf("keys: %d records failed, %d are not sealed with today's key", report.Counts.Failed, report.Left), 1}
	}
	return nil
}

func printRewrap(w io.Writer, r keyring.RewrapReport) error {
	how := "run " + r.ID
	if r.Resumed {
		how += ", taken up again"
	}
	resealed := "sealed anew"
	if r.DryRun {
		how, resealed = "dry run, nothing was written", "would be sealed anew"
	}
	printFailures(w, r.Failures, len(r.Failures))
	_, err := fmt.Fprintf(w, "%s\n%d %s, %d were right, %d are gone, %d failed\n%d records are not sealed with today's key\n",
		how, r.Counts.Resealed, resealed, r.Counts.Already, r.Counts.Gone, r.Counts.Failed, r.Left)
	return err
}
