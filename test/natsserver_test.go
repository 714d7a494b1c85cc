package test

import (
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
)

// startNATSServer starts a server that is no part of the gateway and returns its URL.
func startNATSServer(b testing.TB) string {
	b.Helper()
	s, err := natsd.New(b.TempDir(), natsd.AnyPort)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return s.ClientURL()
}
