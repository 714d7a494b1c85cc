package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/orgs"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const importUsage = `peat keys import DIR reads a genesis from each file DIR/ORGANIZATION/FORMATION;
peat keys import --org ORGANIZATION --app FORMATION FILE reads one.
The organizations must be there. What was imported before is left alone, so it may be done again.

`

// maxGenesis is many times what a genesis comes to, sealed: a name has at most 65535
// bytes.
const maxGenesis = 1 << 17

// imported tells what became of the files.
type imported struct {
	Made     int               `json:"made"`
	Already  int               `json:"already"`
	Failed   int               `json:"failed"`
	DryRun   bool              `json:"dry_run,omitempty"`
	Failures []keyring.Failure `json:"failures"`
}

type importFile struct {
	key  tenant.Key
	path string
}

func keysImport(ctx context.Context, c *keysCommand, args []string) error {
	org := c.scope()
	app := c.flags.String("app", "", "the `formation` of a single file")
	unprotected := c.flags.Bool("unprotected", false, "take records that were never sealed, too")
	dryRun := c.flags.Bool("dry-run", false, "open and check, and write nothing")
	c.flags.Usage = func() {
		fmt.Fprint(c.stderr, importUsage)
		c.flags.PrintDefaults()
	}
	if err := c.parse(args, 1); err != nil {
		return err
	}
	if c.flags.NArg() == 0 {
		c.flags.Usage()
		return errors.New("keys: nothing to import was named")
	}
	files, err := importFiles(c.flags.Arg(0), *org, *app)
	if err != nil {
		return err
	}
	if err := c.open(ctx); err != nil {
		return err
	}
	st, err := c.host.Store(ctx)
	if err != nil {
		return err
	}
	f := orgs.New(orgs.Deps{Store: st, Keys: c.keys, Random: rand.Reader, Notify: func() {}, Log: c.host.Log, Now: time.Now})
	out := imported{DryRun: *dryRun, Failures: []keyring.Failure{}}
	run := newID()
	for _, file := range files {
		made, err := importOne(ctx, f, file, orgs.Import{Key: file.key, Unprotected: *unprotected, DryRun: *dryRun, Actor: operator, RunID: run})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			out.Failed++
			out.Failures = append(out.Failures, keyring.Failure{Org: string(file.key.Org), App: string(file.key.App), Kind: keyring.Genesis, Reason: importReason(err)})
		case made:
			out.Made++
		default:
			out.Already++
		}
	}
	if *c.json {
		err = c.printJSON(out)
	} else {
		printFailures(c.stdout, out.Failures, len(out.Failures))
		verb := "made"
		if out.DryRun {
			verb = "would be made"
		}
		_, err = fmt.Fprintf(c.stdout, "%d formations %s, %d were there, %d failed\n", out.Made, verb, out.Already, out.Failed)
	}
	if err == nil && out.Failed > 0 {
		err = codeError{fmt.Errorf("keys: %d records were not imported", out.Failed), 1}
	}
	return err
}

// importReason tells what a fault tells, and of other errors nothing that could
// hold a part of the file.
func importReason(err error) string {
	if f := fault.Of(err); f != nil {
		return f.Message
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Error()
	}
	return "it could not be written"
}

func importOne(ctx context.Context, f *orgs.Function, file importFile, in orgs.Import) (bool, error) {
	blob, err := readLimited(file.path)
	if err != nil {
		return false, err
	}
	defer clear(blob)
	in.Genesis = blob
	return f.Import(ctx, in)
}

func readLimited(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	blob, err := io.ReadAll(io.LimitReader(file, maxGenesis+1))
	if err == nil && len(blob) > maxGenesis {
		err = fault.TooLarge.New("the file is longer than %d bytes", maxGenesis)
	}
	return blob, err
}

// importFiles finds what there is to import: one file with its place, or a folder of
// folders.
func importFiles(path string, org tenant.OrgID, app string) ([]importFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		if org == "" || app == "" {
			return nil, errors.New("keys: a single file needs --org and --app")
		}
		id, err := tenant.ParseAppID(app)
		return []importFile{{tenant.Key{Org: org, App: id}, path}}, err
	}
	if app != "" {
		return nil, errors.New("keys: --app is for a single file")
	}
	var files []importFile
	orgDirs, err := visible(path)
	for _, dir := range orgDirs {
		id, parseErr := tenant.ParseOrgID(dir.Name())
		if parseErr != nil || !dir.IsDir() {
			return nil, fmt.Errorf("keys: %q is not the folder of an organization", dir.Name())
		}
		if org != "" && id != org {
			continue
		}
		entries, readErr := visible(filepath.Join(path, dir.Name()))
		if readErr != nil {
			return nil, readErr
		}
		for _, e := range entries {
			app, parseErr := tenant.ParseAppID(e.Name())
			if parseErr != nil || e.IsDir() {
				return nil, fmt.Errorf("keys: %q in %q is not the file of a formation", e.Name(), dir.Name())
			}
			files = append(files, importFile{tenant.Key{Org: id, App: app}, filepath.Join(path, dir.Name(), e.Name())})
		}
	}
	return files, err
}

func visible(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	var out []fs.DirEntry
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e)
		}
	}
	return out, err
}
