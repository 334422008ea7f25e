<?php
// Publishes recorded messages until stdin ends, through FCALL, and notes what was acknowledged.
// argv: port of Redis (or 'sentinel:PORT,PORT', 'cluster:PORT,PORT'), journal, pace in ms, seed, topics as JSON {TOPIC: [size, ttl]}.
[, $address, $path, $pace, $seed, $json] = $argv;
$retentions = json_decode($json, true);
$topics = array_keys($retentions);
$journal = fopen($path, 'a');
stream_set_blocking(STDIN, false);
mt_srand((int) $seed);

function note($journal, array $entry): void
{
    fwrite($journal, json_encode(['t' => (int) (microtime(true) * 1000)] + $entry, JSON_UNESCAPED_SLASHES) . "\n");
    fflush($journal);
}

function portOf(string $address): int
{
    if (!str_starts_with($address, 'sentinel:')) return (int) $address;
    foreach (explode(',', substr($address, 9)) as $port) {
        try {
            $sentinel = new Redis();
            $sentinel->connect('127.0.0.1', (int) $port, 0.3, null, 0, 0.3);
            $master = $sentinel->rawCommand('SENTINEL', 'get-master-addr-by-name', 'chaos');
            if (is_array($master)) return (int) $master[1];
        } catch (RedisException) {
            continue;
        }
    }
    throw new RedisException('no sentinel answers');
}

function connectTo(string $address): Redis|RedisCluster
{
    if (str_starts_with($address, 'cluster:')) {
        $seeds = array_map(fn($port) => "127.0.0.1:$port", explode(',', substr($address, 8)));
        return new RedisCluster(null, $seeds, 0.5, 1.0);
    }
    $redis = new Redis();
    $redis->connect('127.0.0.1', portOf($address), 0.5, null, 0, 1.0);
    return $redis;
}

function call(Redis|RedisCluster $redis, string $channel, array $command): mixed
{
    // The first argument says to which master of a Cluster it goes.
    return $redis instanceof RedisCluster ? $redis->rawCommand($channel, ...$command) : $redis->rawCommand(...$command);
}

function publish(Redis|RedisCluster|null &$redis, string $address, string $topic, string $envelope, array $retention, string $key): array
{
    try {
        $redis ??= connectTo($address);
        $command = ['FCALL', 'push_publish', 1, "push:$topic", $envelope, $retention[0], $retention[1], $key];
        $reply = call($redis, "push:$topic", $command);
        if (is_array($reply)) return $reply;
        $error = $redis->getLastError() ?? 'no list';
    } catch (RedisException | RedisClusterException $exception) {
        $error = $exception->getMessage();
    }
    $redis = null;
    throw new RuntimeException($error);
}

$redis = null;
for ($n = 0; !feof(STDIN); $n++) {
    fgets(STDIN);
    $topic = $topics[mt_rand(0, count($topics) - 1)];
    $key = "php-$n";
    $payload = json_encode(['k' => $key, 'pad' => str_repeat('p', mt_rand(0, 200))]);
    $hash = substr(rtrim(strtr(base64_encode(md5($payload, true)), '+/', '-_'), '='), 0, 10);
    note($journal, ['e' => 'try', 'k' => $key, 'topic' => $topic, 'lane' => 'php', 'h' => $hash]);
    for ($since = microtime(true); microtime(true) - $since < 10;) {
        try {
            [$id, $seq] = publish($redis, $address, $topic, "{\"type\":\"n\",\"payload\":$payload}", $retentions[$topic], $key);
            note($journal, ['e' => 'ack', 'k' => $key, 'topic' => $topic, 'lane' => 'php', 'id' => $id, 'seq' => (int) $seq]);
            break;
        } catch (RuntimeException $exception) {
            note($journal, ['e' => 'fail', 'k' => $key, 'topic' => $topic, 'lane' => 'php', 'message' => $exception->getMessage()]);
            usleep(60000);
        }
    }
    usleep((int) ($pace * 1000));
}
