package testenv

import (
	"cmp"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

func (k *KafkaServer) writeCertificates(t testing.TB) {
	t.Helper()
	certificate, key := k.Authority.Issue(t, "broker", "127.0.0.1", "localhost")
	for name, text := range map[string][]byte{
		"authority.pem": k.Authority.PEM, "broker.pem": append(certificate, key...),
	} {
		if err := os.WriteFile(k.path(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// choosePorts takes them from below those that the system gives to outgoing
// connections: a client that dials while the broker is away could be given the
// broker's own.
func (k *KafkaServer) choosePorts(t testing.TB) {
	t.Helper()
	doors := []*string{&k.Plaintext, &k.SASL, &k.TLS, &k.MutualTLS, &k.SASLTLS, &k.Behind, &k.controller}
	for tries, n := 0, 0; n < len(doors); tries++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+mathrand.IntN(12000))))
		if err != nil {
			if tries > 1000 {
				t.Fatal(err)
			}
			continue
		}
		defer func() { _ = l.Close() }()
		*doors[n] = l.Addr().String()
		n++
	}
}

func (k *KafkaServer) properties() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("process.roles=broker,controller")
	line("node.id=1")
	line("controller.quorum.voters=1@%s", k.controller)
	line("controller.listener.names=CONTROLLER")
	line("inter.broker.listener.name=PLAINTEXT")
	doors := fmt.Sprintf("PLAINTEXT://%s,SASL://%s,TLS://%s,MUTUAL://%s,SASLTLS://%s", k.Plaintext, k.SASL, k.TLS, k.MutualTLS, k.SASLTLS)
	line("advertised.listeners=%s,BEHIND://%s", doors, cmp.Or(k.advertised, k.Behind))
	line("listeners=%s,BEHIND://%s,CONTROLLER://%s", doors, k.Behind, k.controller)
	line("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,MUTUAL:SSL,SASLTLS:SASL_SSL,BEHIND:SASL_PLAINTEXT")
	line("log.dirs=%s", k.path("data"))

	line("sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
	for _, door := range []string{"sasl", "sasltls", "behind"} {
		const module = "org.apache.kafka.common.security"
		line(`listener.name.%s.plain.sasl.jaas.config=%s.plain.PlainLoginModule required user_%s="%s";`, door, module, k.User, k.Password)
		for _, m := range []string{"scram-sha-256", "scram-sha-512"} {
			line("listener.name.%s.%s.sasl.jaas.config=%s.scram.ScramLoginModule required;", door, m, module)
		}
	}
	line("ssl.keystore.type=PEM")
	line("ssl.keystore.location=%s", k.path("broker.pem"))
	line("ssl.truststore.type=PEM")
	line("ssl.truststore.location=%s", k.path("authority.pem"))
	line("listener.name.mutual.ssl.client.auth=required")

	// One of everything that is otherwise kept three times.
	line("offsets.topic.replication.factor=1")
	line("offsets.topic.num.partitions=1")
	line("transaction.state.log.replication.factor=1")
	line("transaction.state.log.min.isr=1")
	line("transaction.state.log.num.partitions=1")
	line("group.initial.rebalance.delay.ms=0")
	// Small, for it shares the machine with the tests.
	line("num.network.threads=1")
	line("num.io.threads=2")
	line("log.cleaner.dedupe.buffer.size=4194304")
	// After a crash the broker is let in again when its former session has ended.
	line("broker.session.timeout.ms=2000")
	line("broker.heartbeat.interval.ms=200")
	for _, s := range k.settings { // the last one counts
		line("%s", s)
	}
	return b.String()
}
