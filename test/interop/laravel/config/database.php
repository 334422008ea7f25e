<?php

return [
    'redis' => [
        'client' => env('REDIS_CLIENT', 'phpredis'),
        'options' => ['prefix' => 'laravel_database_'],
        'default' => ['host' => env('REDIS_HOST'), 'port' => env('REDIS_PORT'), 'database' => 0],
    ],
];
