package env_test

import (
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

func ExampleReader() {
	vars := map[string]string{"PEAT_CERTIFICATE_TTL": "one day", "PEAT_ADMIN_TOKEN": "hunter2"}
	e := env.New(func(name string) (string, bool) { s, ok := vars[name]; return s, ok })

	fmt.Println(e.Duration("PEAT_CERTIFICATE_TTL", 24*time.Hour, "How long a certificate is good for."))
	fmt.Println(e.Secret("PEAT_ADMIN_TOKEN", "What administrators show."))
	fmt.Println(e.Err())
	// Output:
	// 24h0m0s
	// [secret]
	// settings: PEAT_CERTIFICATE_TTL must be a time span such as 90s or 1h30m, is "one day"
}
