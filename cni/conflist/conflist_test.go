package conflist

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRender(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"usual", Options{}, `{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "1.0.0",
    "1.1.0"
  ],
  "name": "manul",
  "plugins": [
    {
      "type": "manul",
      "logLevel": "info"
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
`},
		{"everything", Options{Network: "n", Socket: "/run/x.sock", StateDir: "/var/x", MTU: 1450, LogLevel: "debug", WithoutPortMap: true}, `{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "1.0.0",
    "1.1.0"
  ],
  "name": "n",
  "plugins": [
    {
      "type": "manul",
      "socket": "/run/x.sock",
      "stateDir": "/var/x",
      "mtu": 1450,
      "logLevel": "debug"
    }
  ]
}
`},
		{"sysctls of pods", Options{Sysctls: map[string]string{"net.core.somaxconn": "4096", "net.ipv4.tcp_keepalive_time": "600"}, WithoutPortMap: true}, `{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "1.0.0",
    "1.1.0"
  ],
  "name": "manul",
  "plugins": [
    {
      "type": "manul",
      "logLevel": "info"
    },
    {
      "type": "tuning",
      "sysctl": {
        "net.core.somaxconn": "4096",
        "net.ipv4.tcp_keepalive_time": "600"
      }
    }
  ]
}
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Render(c.o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRenderRefuses(t *testing.T) {
	for want, o := range map[string]Options{
		"log level":                   {LogLevel: "loud"},
		"MTU":                         {MTU: -1},
		"path":                        {Socket: "run/x"},
		`sysctl: got "vm.swappiness"`: {Sysctls: map[string]string{"vm.swappiness": "1"}},
		`sysctl: got "net/core"`:      {Sysctls: map[string]string{"net/core": "1"}},
		"sysctl net.core.somaxconn":   {Sysctls: map[string]string{"net.core.somaxconn": ""}},
	} {
		if _, err := Render(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
}
