// Peat is the gateway in one binary: `peat dev` runs everything in one process,
// `peat serve` runs the one function that PEAT_FUNCTION names. `peat verify` checks
// what a sink has received, `peat audit verify` an export of an audit trail,
// `peat keys` looks after what is sealed, and `peat enroll` is for the other side: it
// gets a node its certificate.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"knative.dev/pkg/signals"

	gateway "github.com/defenseunicorns/peat-gateway"
)

const usage = `peat is the control plane of Peat meshes.

  peat dev [--data DIR] [--listen ADDR] [--demo]   everything in one process, to try and to develop
  peat serve                                       the function that PEAT_FUNCTION names
  peat verify [FLAGS] FILE…                        whether anything is missing in a file of received events
  peat audit verify [FLAGS] FILE                   whether an export of an audit trail is what was recorded
  peat keys COMMAND [FLAGS]                        what is sealed: status, verify, rewrap, import
  peat enroll --gateway URL … --dir DIR [FLAGS]    a node's own enrollment: its key and its certificate, kept good
  peat version

docs/configuration.md lists the settings; all of them are environment variables.
`

func main() {
	// The first signal ends the context, a second one the process.
	if err := run(signals.NewContext(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "peat:", err)
		os.Exit(exitCode(err))
	}
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if coded, ok := errors.AsType[codeError](err); ok {
		return coded.code
	}
	return 1
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		args = []string{"help"}
	}
	switch args[0] {
	case "dev":
		return dev(ctx, args[1:], stdout, stderr)
	case "serve":
		return serve(ctx, stderr)
	case "verify":
		return verify(ctx, args[1:], os.Stdin, stdout, stderr)
	case "audit":
		return auditCommand(ctx, args[1:], os.Stdin, stdout, stderr)
	case "keys":
		return keys(ctx, args[1:], stdout, stderr)
	case "enroll":
		return enroll(ctx, args[1:], os.Stdin, stdout, stderr)
	case "version", "--version":
		_, err := fmt.Fprintln(stdout, gateway.Version())
		return err
	case "help", "--help", "-h":
		_, err := io.WriteString(stdout, usage)
		return err
	}
	return fmt.Errorf("there is no command %q\n\n%s", args[0], usage)
}
