package nftables

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/manul-net/manul/test/netns"
)

// dump is what nft shows of the table: an eye of its own, independent of the driver. Each line is a chain, a rule at
// its place, a set or an element, in an order that says nothing but what is so.
func dump(t testing.TB, ns *netns.NS, handles bool) []string {
	t.Helper()
	var out []byte
	ns.Must("listing the table", func() error {
		var err error
		out, err = exec.Command("nft", "-j", "-n", "list", "table", "inet", tableName).Output()
		return err
	})
	var parsed struct {
		Nftables []map[string]map[string]any `json:"nftables"`
	}
	if err := json.Unmarshal(out, &parsed); err != nil {
		t.Fatalf("parsing what nft says: %v", err)
	}
	var lines []string
	places := map[any]int{}
	for _, object := range parsed.Nftables {
		for kind, content := range object {
			if kind == "metainfo" || kind == "table" {
				continue
			}
			if !handles {
				delete(content, "handle")
			}
			elements, _ := content["elem"].([]any)
			delete(content, "elem")
			place := ""
			if kind == "rule" {
				places[content["chain"]]++
				place = fmt.Sprintf(" %03d", places[content["chain"]])
			}
			lines = append(lines, fmt.Sprintf("%s %v%v%s %s", kind, content["chain"], content["name"], place, text(t, content)))
			for _, e := range elements {
				lines = append(lines, fmt.Sprintf("element of %v: %s", content["name"], text(t, e)))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// text is JSON in which the elements of sets are in order.
func text(t testing.TB, value any) string {
	t.Helper()
	sortSets(value)
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sortSets(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			sortSets(inner)
			if list, ok := inner.([]any); ok && key == "set" {
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
		}
	case []any:
		for _, inner := range v {
			sortSets(inner)
		}
	}
}
