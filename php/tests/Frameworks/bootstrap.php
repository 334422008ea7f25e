<?php

declare(strict_types=1);

require getenv('LARAVEL') ?: 'Illuminate/autoload.php';
require_once getenv('SYMFONY_NOTIFIER') ?: 'Symfony/Component/Notifier/autoload.php';
require_once __DIR__ . '/../../autoload.php';
require_once __DIR__ . '/RecordingTransport.php';
require_once __DIR__ . '/think.php';
