<?php

/** `broadcasting.connections.push` for all that the application does not set there. */

declare(strict_types=1);

return [
    'driver' => 'push',
    // The push API, where PHP does not reach the Redis of the nodes.
    'url' => env('PUSH_URL'),
    'key' => env('PUSH_API_KEY'),
    // A connection of config/database.php. Its prefix and serializer do not matter, its database does: that of the nodes.
    'connection' => env('PUSH_REDIS_CONNECTION', 'default'),
    'prefix' => env('PUSH_PREFIX', 'push:'),
    'sharded' => (bool) env('PUSH_SHARDED', false),
    // Which channels without private- and presence- anybody may hear.
    'public' => ['*'],
    // 'private-orders.*' => ['size' => 100, 'ttl' => 3600]: kept, so that a page that comes back misses nothing.
    'history' => [],
    // Whether pages may whisper. The nodes must take it as well: clientPublications.
    'whispers' => (bool) env('PUSH_WHISPERS', false),
    // Seconds after which routes/channels.php is asked again on an open connection. Null: never.
    'expires' => env('PUSH_EXPIRES'),
];
