package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// onBoth runs a test on both engines, with a table that holds numbers once.
func onBoth(t *testing.T, test func(*testing.T, *sqldb.DB)) {
	for name, url := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "group.db") },
		"postgres": func(t *testing.T) string { return testenv.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sqldb.Open(t.Context(), url(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			for _, statement := range []string{
				`CREATE TABLE numbers (n BIGINT PRIMARY KEY)`,
				`CREATE TABLE children (n BIGINT REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED)`,
			} {
				if err := db.InGroup(t.Context(), "", func(q sqldb.Querier) error {
					_, err := q.ExecContext(t.Context(), statement)
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			test(t, db)
		})
	}
}

// put keeps a number as one of a group.
func put(ctx context.Context, db *sqldb.DB, n int, then func(sqldb.Querier) error) error {
	return db.InGroup(ctx, "numbers", func(q sqldb.Querier) error {
		if _, err := q.ExecContext(ctx, `INSERT INTO numbers (n) VALUES ($1)`, n); err != nil {
			return err
		}
		return then(q)
	})
}

func well(sqldb.Querier) error { return nil }

// count tells how many numbers there are, for somebody outside or inside.
func count(t *testing.T, q sqldb.Querier) int {
	t.Helper()
	var n int
	if err := q.QueryRowContext(context.Background(), `SELECT count(*) FROM numbers`).Scan(&n); err != nil {
		t.Error(err)
	}
	return n
}

// behind holds a group up with the number 0, queues the others behind it in their
// order, calls before and lets go. It returns when all have their answers.
func behind(t *testing.T, db *sqldb.DB, before func(), others ...func()) {
	t.Helper()
	var wg sync.WaitGroup
	begun, release := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		if err := put(context.Background(), db, 0, func(sqldb.Querier) error {
			select {
			case <-begun:
			default:
				close(begun)
			}
			<-release
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-begun
	for i, f := range others {
		wg.Go(f)
		for db.Waiting("numbers") < i+1 {
			runtime.Gosched()
		}
	}
	before()
	close(release)
	wg.Wait()
}

func TestTheWaitingShareACommit(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		var inside, outside []int
		see := func(q sqldb.Querier) error {
			inside, outside = append(inside, count(t, q)), append(outside, count(t, db.Reader()))
			return nil
		}
		member := func(n int) func() {
			return func() {
				if err := put(t.Context(), db, n, see); err != nil {
					t.Error(err)
				}
				if got := count(t, db.Reader()); got < 4 {
					t.Errorf("%d was told before the commit: %d numbers", n, got)
				}
			}
		}
		behind(t, db, func() {}, member(1), member(2), member(3))
		if diff := cmp.Diff([]int{2, 3, 4}, inside); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]int{1, 1, 1}, outside); diff != "" {
			t.Errorf("somebody saw what was not committed: %s", diff)
		}
	})
}

func TestAMemberFailsByItself(t *testing.T) {
	failed := errors.New("failed")
	for name, tc := range map[string]struct {
		ends func(ctx context.Context, db *sqldb.DB) error
		ok   func(error) bool
	}{
		"an error": {
			func(ctx context.Context, db *sqldb.DB) error {
				return put(ctx, db, 7, func(sqldb.Querier) error { return failed })
			},
			func(err error) bool { return errors.Is(err, failed) },
		},
		"an error before it writes": {
			func(ctx context.Context, db *sqldb.DB) error {
				return db.InGroup(ctx, "numbers", func(q sqldb.Querier) error {
					var n int
					return errors.Join(failed, q.QueryRowContext(ctx, `SELECT count(*) FROM numbers`).Scan(&n))
				})
			},
			func(err error) bool { return errors.Is(err, failed) },
		},
		"a question that cannot be asked": {
			func(ctx context.Context, db *sqldb.DB) error {
				return db.InGroup(ctx, "numbers", func(q sqldb.Querier) error {
					var n int
					return q.QueryRowContext(ctx, `SELECT count(*) FROM nowhere`).Scan(&n)
				})
			},
			func(err error) bool { return err != nil },
		},
		"a number twice": {
			func(ctx context.Context, db *sqldb.DB) error { return put(ctx, db, 0, well) },
			sqldb.IsDuplicate,
		},
		"an error that it does not report": {
			func(ctx context.Context, db *sqldb.DB) error {
				return put(ctx, db, 7, func(q sqldb.Querier) error {
					_, _ = q.ExecContext(ctx, `INSERT INTO numbers (n) VALUES (0)`)
					_, err := q.ExecContext(ctx, `INSERT INTO numbers (n) VALUES (0)`)
					return err
				})
			},
			func(err error) bool { return err != nil },
		},
		"what the commit refuses": {
			func(ctx context.Context, db *sqldb.DB) error {
				return put(ctx, db, 7, func(q sqldb.Querier) error {
					_, err := q.ExecContext(ctx, `INSERT INTO children (n) VALUES (99)`)
					return err
				})
			},
			sqldb.IsMissingParent,
		},
		"its caller has gone meanwhile": {
			func(ctx context.Context, db *sqldb.DB) error {
				ctx, cancel := context.WithCancel(ctx)
				return put(ctx, db, 7, func(q sqldb.Querier) error {
					cancel()
					_, err := q.ExecContext(ctx, `INSERT INTO numbers (n) VALUES (8)`)
					return err
				})
			},
			func(err error) bool { return errors.Is(err, context.Canceled) },
		},
		"a panic": {
			func(ctx context.Context, db *sqldb.DB) (err error) {
				defer func() { err = fmt.Errorf("%v", recover()) }()
				return put(ctx, db, 7, func(sqldb.Querier) error { panic("no way") })
			},
			func(err error) bool { return err != nil && err.Error() == "no way" },
		},
		"its goroutine ends": {
			func(ctx context.Context, db *sqldb.DB) error {
				var err error
				var wg sync.WaitGroup
				wg.Go(func() { err = put(ctx, db, 7, func(sqldb.Querier) error { runtime.Goexit(); return nil }) })
				wg.Wait()
				return err
			},
			func(error) bool { return true },
		},
	} {
		for _, careful := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", careful: ", careful), func(t *testing.T) {
				onBoth(t, func(t *testing.T, db *sqldb.DB) {
					good := func(n int) func() {
						return func() {
							if err := put(t.Context(), db, n, well); err != nil {
								t.Errorf("%d: %v", n, err)
							}
						}
					}
					ends := func() {
						if err := tc.ends(t.Context(), db); !tc.ok(err) {
							t.Errorf("%v", err)
						}
					}
					behind(t, db, func() {}, good(1), ends, good(2))
					if careful {
						db.BeCareful("numbers")
						if err := db.InGroup(t.Context(), "numbers", func(q sqldb.Querier) error {
							_, err := q.ExecContext(t.Context(), `DELETE FROM numbers`)
							return err
						}); err != nil {
							t.Fatal(err)
						}
						behind(t, db, func() { db.BeCareful("numbers") }, good(1), ends, good(2))
					}
					var kept []int
					rows, err := db.Reader().Query(`SELECT n FROM numbers ORDER BY n`)
					for err == nil && rows.Next() {
						var n int
						err = rows.Scan(&n)
						kept = append(kept, n)
					}
					if diff := cmp.Diff([]int{0, 1, 2}, kept); diff != "" || err != nil {
						t.Errorf("%v %s", err, diff)
					}
				})
			})
		}
	}
}

func TestOneWhoGoesBeforeItsTurn(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		behind(t, db, func() {
			cancel()
			<-gone // it does not wait for the one in front
		}, func() {
			defer close(gone)
			if err := put(ctx, db, 1, well); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		}, func() {
			if err := put(t.Context(), db, 2, well); err != nil {
				t.Error(err)
			}
		}, func() {
			if err := put(t.Context(), db, 3, well); err != nil {
				t.Error(err)
			}
		})
		if got := count(t, db.Reader()); got != 3 {
			t.Errorf("%d numbers", got)
		}
	})
}

// TestGroupsKeepTheirWord has many writers with chance: whoever was told that it
// was done finds it done, and nobody else.
func TestGroupsKeepTheirWord(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("PEAT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("PEAT_SEED=%d", seed)
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		var mu sync.Mutex
		want := map[int]bool{}
		var wg sync.WaitGroup
		for writer := range 16 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(writer)))
				for i := range 40 {
					n := 1000*writer + i
					if rng.IntN(5) == 0 {
						n = rng.IntN(30) // which others have too
					}
					ctx, cancel := context.WithCancel(context.Background())
					fails := rng.IntN(4) == 0
					if rng.IntN(8) == 0 {
						go cancel()
					}
					err := put(ctx, db, n, func(sqldb.Querier) error {
						if fails {
							return errors.New("chance")
						}
						return nil
					})
					cancel()
					if err == nil {
						mu.Lock()
						if want[n] {
							t.Errorf("%d was kept twice", n)
						}
						want[n] = true
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		got := map[int]bool{}
		rows, err := db.Reader().Query(`SELECT n FROM numbers`)
		for err == nil && rows.Next() {
			var n int
			err = rows.Scan(&n)
			got[n] = true
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
	})
}
